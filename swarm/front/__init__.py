"""The command line: Invoke's program, completion, and how a process begins and ends."""
