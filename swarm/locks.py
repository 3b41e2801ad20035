"""File locks that end with their holder: flock(2), which the kernel releases when the last descriptor is closed.

A child process can inherit a lock, so that work which outlives its parent keeps the lock until it has ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from swarm.deadline import Deadline

__all__ = ["Lock", "hold", "try_lock"]

_POLL = 0.05  # seconds between two attempts; a blocking flock would keep a thread from seeing Ctrl-C


class Lock:
    """A lock that is held until it is released, or until every process that inherited it has ended."""

    def __init__(self, descriptor: int, *, waited: bool = False) -> None:
        self.descriptor = descriptor
        self.waited = waited

    def release(self) -> None:
        """Close the descriptor. A child that inherited it still holds the lock."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def try_lock(
    path: Path, *, shared: bool = False, inheritable: bool = False, create: bool = True
) -> Lock | None:
    """Lock the file `path`, which is created if it is missing. Return None if another process or thread holds it.

    A `shared` lock excludes only exclusive ones. An `inheritable` lock is passed on to child processes. Without
    `create` the file must exist, and may belong to another user who lets us read it. Raise OSError.
    """
    access = os.O_RDWR | os.O_CREAT if create else os.O_RDONLY
    descriptor = os.open(path, access | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    os.set_inheritable(descriptor, inheritable)
    return Lock(descriptor)


@contextlib.contextmanager
def hold(
    path: Path,
    *,
    shared: bool = False,
    inheritable: bool = False,
    waiting: Callable[[], AbstractContextManager[object]] = nullcontext,
    deadline: Deadline | None = None,
) -> Iterator[Lock]:
    """Hold the lock of `path` during the block. While another holder has it, wait inside `waiting()`: a spinner.

    `Lock.waited` says whether it had to wait. Raise TimeoutError when the `deadline` expires first.
    """
    lock = try_lock(path, shared=shared, inheritable=inheritable)
    if lock is None:
        with waiting():
            lock = _wait(path, deadline, shared=shared, inheritable=inheritable)
    with lock:
        yield lock


def _wait(path: Path, deadline: Deadline | None, *, shared: bool, inheritable: bool) -> Lock:
    while True:
        if deadline is None:
            time.sleep(_POLL)
        elif not deadline.pause(_POLL):
            raise TimeoutError(f"another process still holds {path} after {deadline.limit:g} s")
        if lock := try_lock(path, shared=shared, inheritable=inheritable):
            lock.waited = True
            return lock
