"""Kinds of steps: what a host file can ask of a guest."""
