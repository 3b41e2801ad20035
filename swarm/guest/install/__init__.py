"""Steps of `inv install`: from a bare Debian or Ubuntu to a hardened host with a ready OpenClaw gateway."""
