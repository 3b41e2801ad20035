"""Old home of some kinds of steps, for callers that are not moved yet."""

from __future__ import annotations

from swarm.guest.kinds.firewall import firewall, firewall_default, firewall_rule
from swarm.guest.kinds.mounts import mount
from swarm.guest.kinds.units import linger, unit

__all__ = ["firewall", "firewall_default", "firewall_rule", "linger", "mount", "unit"]
