"""Where things live on the control machine.

SWARM_HOSTS, SWARM_STATE and SWARM_CACHE move the three folders; tests use that to stay out of a person's own.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["ROOT", "cache_dir", "hosts_dir", "state_dir"]

ROOT = Path(__file__).resolve().parent.parent


def hosts_dir() -> Path:
    """Return the folder with the host files and the pinned host keys."""
    return Path(os.environ.get("SWARM_HOSTS") or ROOT / "hosts")


def state_dir() -> Path:
    """Return the folder of what must survive: swarm's own SSH key and the embedded hypervisor's disks."""
    given = os.environ.get("SWARM_STATE")
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(given) if given else Path(base) / "swarm"


def cache_dir() -> Path:
    """Return the folder of what can be fetched or built again: images."""
    given = os.environ.get("SWARM_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given) if given else Path(base) / "swarm"
