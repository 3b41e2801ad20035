"""The note of an upgrade that is under way: what it takes to complete it, or to put the old version and state back."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from swarm.errors import Refused
from swarm.files import private_dir, write_atomically
from swarm.locks import try_lock
from swarm.paths import state_dir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from swarm.console import Talk

__all__ = ["Unfinished", "alone", "clear", "forget", "load", "path", "save"]


@dataclass(frozen=True)
class Unfinished:
    """An upgrade from `old` to `new`.

    `record` is the text of the guest's record before it. `archive` and `backup` are the name and the start, in seconds
    since 1970, of the backup. `broken` lists the promises that were broken before. `returning` says why the way back
    began, or is empty: then the next run completes the way back and not the upgrade.
    """

    old: str
    new: str
    record: str
    archive: str
    backup: float
    broken: tuple[str, ...]
    returning: str = ""

    @property
    def since(self) -> str:
        """The moment of the backup, in words."""
        return f"{datetime.fromtimestamp(self.backup, UTC):%Y-%m-%d %H:%M} UTC"


def path(host: str) -> Path:
    """Return the path of the note, which need not exist."""
    return private_dir(private_dir(state_dir()) / "upgrade") / f"{host}.json"


@contextmanager
def alone(host: str) -> Iterator[None]:
    """Lock the upgrades of a host during the block. Raise Refused if another process holds the lock."""
    lock = try_lock(path(host).with_suffix(".lock"))
    if lock is None:
        raise Refused(f"another upgrade of {host} is running", "wait until it has ended")
    with lock:
        yield


def save(host: str, note: Unfinished) -> None:
    """Write the note. Raise OSError."""
    write_atomically(path(host), json.dumps(asdict(note)), mode=0o600)


def load(host: str) -> Unfinished | None:
    """Return the note, or None if there is none. Raise Refused if it can't be read."""
    file = path(host)
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return Unfinished(**{**values, "broken": tuple(values["broken"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise Refused(
            f"{host}: the note of an upgrade that was interrupted can't be read: {file}",
            f"compare ./inv verify --host {host} with ./inv backup.list --host {host}, then delete the file",
        ) from None


def clear(host: str) -> None:
    """Delete the note: the upgrade is complete, or undone."""
    path(host).unlink(missing_ok=True)


def forget(host: str, talk: Talk) -> None:
    """Delete the note of a machine that is gone, and say where the state is that it had before the upgrade."""
    with suppress(Refused):
        if note := load(host):
            where = f"the archive {note.archive}" if note.archive else "the mirror"
            talk.say(
                f"an upgrade {note.old} → {note.new} was unfinished: {where} has the state of {note.since}, before it"
            )
    clear(host)
