"""The engine: all probes of a host in one round trip, the difference as a pure function, the changes level by level."""
