"""What the engine needs of a guest. swarm.ssh's Link and Guest have it; so has a stand-in in tests.

Fabric, which Guest is made of, takes a quarter of an unchanged run to import, and the engine does without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from swarm.ssh.session import Limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from swarm.deadline import Deadline

__all__ = ["Ended", "Guest", "Reached", "Running", "limits"]


class Ended(Protocol):
    """The end of a script."""

    @property
    def exited(self) -> int:
        """The exit code."""


class Running(Protocol):
    """A script that runs on the guest."""

    def join(self) -> Ended:
        """Wait for the end. Raise what `take` raised, Unreachable, or CommandFailed if a limit is exceeded."""


class Guest(Protocol):
    """A host that runs scripts as root."""

    @property
    def alias(self) -> str:
        """Its name in messages."""

    def script(self, script: str, take: Callable[[bytes], None], limits: Limits = ...) -> Running:
        """Send a script and return. `take` is given each line of output, without the newline, from another thread."""


class Reached(Guest, Protocol):
    """A host that can be connected to while its steps are prepared."""

    def connecting(self) -> AbstractContextManager[None]:
        """Connect while the block runs. If the block raises, the connection is given up."""


_OUTPUT = 64 << 20  # bytes of a whole conversation; nothing of them is kept but facts and the last lines


def limits(total: float, deadline: Deadline | None) -> Limits:
    """Return the limits of a conversation of `total` seconds, or of those until the deadline if they are fewer."""
    return Limits(total=min(total, deadline.remaining) if deadline else total, output=_OUTPUT)
