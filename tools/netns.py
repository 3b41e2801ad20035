"""A network namespace of a test's own: its bridges and addresses can't get in the way of this computer's routes."""

from __future__ import annotations

import ctypes
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Namespace"]

_NEWNET = 0x40000000  # CLONE_NEWNET in linux/sched.h; os.unshare exists from Python 3.12 on
_OWN = "/proc/thread-self/ns/net"


class Namespace:
    """A network namespace that has only loopback. It ends with its last process and with `close()`."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        outside = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._check(self._libc.unshare(_NEWNET))
            try:
                subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
                self._inside = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
            finally:
                self._enter(outside)
        finally:
            os.close(outside)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Let this thread, and the processes that it starts, be in the namespace during the block."""
        outside = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._enter(self._inside)
            yield
        finally:
            self._enter(outside)
            os.close(outside)

    def close(self) -> None:
        """Let the namespace end when nothing runs in it any more."""
        os.close(self._inside)

    def _enter(self, descriptor: int) -> None:
        self._check(self._libc.setns(descriptor, _NEWNET))

    def _check(self, result: int) -> None:
        if result:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
