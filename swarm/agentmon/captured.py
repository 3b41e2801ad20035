"""Events that a proof led here: kept in a file until they are back in the guest's spool, from where they are sent.

The receiver answers 2xx only after an event is in the file. So nothing is lost if this computer stops in the middle:
the next `inv hook.deploy` finds the file and puts its events back first. One proof of a host runs at a time: two would
share the file and the gateway, and the second would lead the events of the first away.
"""

from __future__ import annotations

import os
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from swarm.agentmon.envelope import Event, parse
from swarm.errors import SwarmError
from swarm.files import private_dir
from swarm.guest.engine.script import alone_as
from swarm.locks import hold
from swarm.paths import state_dir
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from swarm.console import Talk
    from swarm.inventory import InstallSettings
    from swarm.ssh.guest import Guest

__all__ = ["MOST", "Captured", "alone"]

MOST = 16 << 20  # bytes; beyond that the receiver takes no more, and events stay in the guest's spool


@contextmanager
def alone(host: str, talk: Talk) -> Iterator[None]:
    """Keep other processes from proving this host's events during the block. Wait while one does. Raise OSError."""
    path = private_dir(private_dir(state_dir()) / "agentmon") / f"{host}.lock"
    with hold(path, waiting=lambda: talk.step("waiting for another run that deploys or tests the hook")):
        yield


class Captured:
    """The file of one host's captured events, one per line. It does not exist while there are none."""

    def __init__(self, host: str) -> None:
        self._path: Path = state_dir() / "agentmon" / f"{host}.ndjson"

    @property
    def size(self) -> int:
        """Bytes that wait here."""
        return self._path.stat().st_size if self._path.exists() else 0

    def keep(self, events: list[Event]) -> None:
        """Append events. They are on disk when this returns. Raise OSError."""
        private_dir(self._path.parent)
        data = b"".join(msgspec.json.encode(event.data) + b"\n" for event in events)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(self._path, flags, 0o600), "ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def events(self) -> list[Event]:
        """Return the events. A line that was torn by a crash is left out: its sender got no 2xx and still has it."""
        found: list[Event] = []
        for line in self._path.read_bytes().splitlines() if self._path.exists() else ():
            try:
                found += parse(line)
            except SwarmError:
                continue
        return found

    def put_back(self, guest: Guest, openclaw: InstallSettings) -> None:
        """Write the events into the guest's spool as a segment of a process that has ended, and delete the file.

        The hook takes such segments over at the end of a proof, at its start, and each minute. Raise CommandFailed,
        Unreachable: the file then stays.
        """
        events = self.events()
        if events:
            guest.check(_script(openclaw, events), "putting events back into the hook's spool", timeout=120)
        self._path.unlink(missing_ok=True)


def _script(openclaw: InstallSettings, events: list[Event]) -> str:
    folder = f"{openclaw.config_dir}/agentmon"
    text = "".join(_line(event) for event in events)
    # hooks/agentmon/lib/segments.ts: milliseconds, number, and the process that made it. Process 0 is never alive.
    age = min(int(event.time.timestamp() * 1000) for event in events)
    path = f"{folder}/{max(age, 0):015d}-000000.0.0.log"
    work = (
        f"umask 077\nmkdir -p -- {quote(folder)}\n"
        f"printf '%s' {quote(text)} | put {quote(path, '600', openclaw.user, openclaw.user)}"
    )
    return alone_as(openclaw.user, work)


def _line(event: Event) -> str:
    """The line of an event in a segment: hooks/agentmon/lib/records.ts."""
    text = msgspec.json.encode(event.data)
    return f"{zlib.crc32(text):08x} {text.decode()}\n"
