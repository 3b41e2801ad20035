"""A machine that many tests share, replaced as soon as one of them has broken it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.lab.machine import Machine

__all__ = ["Keeper"]


class Keeper:
    """Gives out the same machine as long as it is healthy, then a new one. Given the function that boots one."""

    def __init__(self, make: Callable[[], Machine]) -> None:
        self._make = make
        self._machine: Machine | None = None
        self._failures = 0

    def get(self, failures: int = 0) -> Machine:
        """Return a healthy machine.

        `failures` is the number of tests that have failed so far. If it has changed since the last call, the machine is
        replaced too: a test that failed halfway may have left it in any state. Raise LabError if none can be booted.
        """
        changed, self._failures = failures != self._failures, failures
        if self._machine is not None and (changed or not self._machine.healthy()):
            self._machine.world.discard(self._machine)
            self._machine = None
        if self._machine is None:
            self._machine = self._make()
        return self._machine
