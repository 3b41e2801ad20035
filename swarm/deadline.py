"""One deadline for a whole task, instead of a timeout for each wait in it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

__all__ = ["Deadline"]


@dataclass(frozen=True)
class Deadline:
    """The point in time, `limit` seconds from now, by which a task must end, however many waits it has."""

    limit: float
    start: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    @property
    def remaining(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.limit - self.elapsed)

    @property
    def expired(self) -> bool:
        """Whether the time is up."""
        return self.remaining <= 0

    def pause(self, interval: float) -> bool:
        """Sleep for `interval` seconds, or for what remains if that is less. Return whether time remains afterwards."""
        time.sleep(min(interval, self.remaining))
        return not self.expired
