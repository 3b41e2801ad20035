"""One backup at a time of each host."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from swarm.deadline import Deadline
from swarm.errors import Refused
from swarm.files import private_dir
from swarm.locks import try_lock
from swarm.paths import state_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.locks import Lock

__all__ = ["hold_host"]

_POLL = 0.05  # seconds between two attempts


@contextmanager
def hold_host(name: str, *, patience: float = 0.0) -> Iterator[Lock]:
    """Lock the backups of the host `name` during the block.

    Raise Refused if another process or thread still holds the lock after `patience` seconds.
    rsync inherits the lock: if swarm is killed, the next backup waits until its rsync has ended too.
    """
    folder = private_dir(private_dir(private_dir(state_dir()) / "backup") / name)
    deadline = Deadline(patience)
    while (lock := try_lock(folder / "lock", inheritable=True)) is None:
        if not deadline.pause(_POLL):
            raise Refused(
                f"another backup of {name} is running",
                f"wait until it has ended; `fuser -v {folder / 'lock'}` shows its process",
            )
    with lock:
        yield lock
