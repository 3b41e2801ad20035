"""Implement the commands of tasks.py: choose the hosts, run the verb, render the results, return the exit code.

Heavy modules are imported where a command needs them, so that no command pays for another's.
"""
