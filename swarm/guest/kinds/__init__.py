"""Kinds of steps: functions that return the Step for one kind of thing on a guest."""
