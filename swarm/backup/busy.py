"""One backup, restore or drill at a time of each host."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal, get_args

from swarm.deadline import Deadline
from swarm.errors import Refused
from swarm.files import private_dir
from swarm.locks import try_lock
from swarm.paths import state_dir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from swarm.locks import Lock

__all__ = ["Work", "hold_host"]

Work = Literal["backup", "drill", "pruning", "restore", "verification"]

_POLL = 0.05  # seconds between two attempts
_LONGEST = 20  # bytes of a lock that are read


@contextmanager
def hold_host(name: str, work: Work = "backup", *, patience: float = 0.0) -> Iterator[Lock]:
    """Lock the backups of the host `name` during the block, and tell others that it is for this `work`.

    Raise Refused if another process or thread still holds the lock after `patience` seconds.
    rsync inherits the lock: if swarm is killed, the next backup waits until its rsync has ended too.
    """
    path = private_dir(private_dir(private_dir(state_dir()) / "backup") / name) / "lock"
    deadline = Deadline(patience)
    while (lock := try_lock(path, inheritable=True)) is None:
        if not deadline.pause(_POLL):
            raise Refused(
                f"{_running(path)} of {name} is running",
                f"wait until it has ended; `fuser -v {path}` shows its process",
            )
    with lock:
        with suppress(OSError):  # a full disk is no reason to do nothing
            os.ftruncate(lock.descriptor, 0)
            os.pwrite(lock.descriptor, work.encode("ascii"), 0)
        yield lock


def _running(path: Path) -> str:
    """Return what the lock's holder has written into it, if it is one of the words that this program writes."""
    with suppress(OSError), path.open("rb") as file:
        found = file.read(_LONGEST).decode("ascii", "replace")
        if found in get_args(Work):
            return f"a {found}"
    return "a backup or a restore"
