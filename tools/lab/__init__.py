"""Real machines for tests and benchmarks: a Debian system booted by systemd-nspawn, with its own network namespace.

    world netns ── bridge 10.77.0.1 ──┬── machine netns 10.77.0.10 (its own sshd, systemd and iptables)
      (where ssh starts from)         └── machine netns 10.77.0.11 …        └── pasta ── package registries

Needs root, systemd-container, mmdebstrap, iproute2, socat and, for machines that reach registries, passt.
"""

from tools.lab.keeper import Keeper
from tools.lab.machine import Machine
from tools.lab.process import LabError, missing, run
from tools.lab.tree import base_tree
from tools.lab.world import World

__all__ = ["Keeper", "LabError", "Machine", "World", "base_tree", "missing", "run"]
