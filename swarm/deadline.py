"""One deadline for a whole piece of work, instead of a timeout for each wait in it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

__all__ = ["Deadline"]


@dataclass(frozen=True)
class Deadline:
    """One point in time that a whole piece of work must meet, however many waits it has. Given in seconds from now."""

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
        """Whether no time is left."""
        return self.remaining <= 0

    def pause(self, interval: float) -> bool:
        """Sleep for `interval` seconds or what is left, whichever is shorter. Return whether time is left after it."""
        time.sleep(min(interval, self.remaining))
        return not self.expired
