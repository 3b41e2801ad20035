"""swarm: OpenClaw agents in virtual machines that can be rebuilt from one file."""
