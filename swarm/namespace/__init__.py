"""The collections of commands. tasks.py at the top has the commands outside collections, and the namespace."""
