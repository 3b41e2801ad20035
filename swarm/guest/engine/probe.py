"""Old names of this package's parts, for callers that are not moved yet."""

from __future__ import annotations

from swarm.guest.engine.converge import observe
from swarm.guest.engine.script import (
    BUNDLE,
    LOCK_WAIT,
    PRIVATE_AUTHORITIES,
    as_user,
    new_mark,
    opening,
    prelude,
    probes,
)
from swarm.guest.engine.step import Step

__all__ = [
    "BUNDLE",
    "LOCK_WAIT",
    "PRIVATE_AUTHORITIES",
    "Step",
    "as_user",
    "new_mark",
    "observe",
    "opening",
    "prelude",
    "probes",
]
