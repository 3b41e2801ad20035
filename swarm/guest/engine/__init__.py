"""The engine. It asks for all facts of a guest in one round trip, compares, and applies the changes level by level."""
