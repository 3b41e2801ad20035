"""The log of each host, in the state folder: logs/NAME.log, which is moved to NAME.log.1 when it is long.

A log never ends a run: if it can't be written, the run goes on without it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from swarm.errors import SwarmError
from swarm.files import private_dir
from swarm.paths import state_dir
from swarm.text import quote, visible

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Log", "path_of"]

_LONGEST = 1 << 20  # bytes of a log, and of the one before it
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


def path_of(host: str) -> Path:
    """Return the path of a host's log."""
    return state_dir() / "logs" / f"{host}.log"


class Log:
    """The log of one host in this run. Nothing is written before the first line, which follows the command and time."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._begun = False

    def line(self, text: str) -> None:
        """Append plain text, with the time (UTC) before each line."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        rows = [f"{now} {row}" for row in visible(text).splitlines()]
        if not self._begun:
            rows.insert(0, f"{now} $ inv {visible(quote(*sys.argv[1:]), lines=False)}")
        self._begun = True
        with contextlib.suppress(OSError, SwarmError):
            self._append("".join(f"{row}\n" for row in rows))

    def _append(self, text: str) -> None:
        path = path_of(self._host)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > _LONGEST:
                path.replace(path.with_name(f"{path.name}.1"))
        private_dir(path.parent)
        descriptor = os.open(path, _FLAGS, 0o600)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
