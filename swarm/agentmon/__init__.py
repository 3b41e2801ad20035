"""agentmon's events: their envelope, a small receiver for people without a server, and the hook that sends them."""
