"""A real OpenClaw gateway for tests, with a fake model provider and a fake chat network: neither can be had offline."""
