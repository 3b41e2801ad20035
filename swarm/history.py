"""What this machine remembers about a host over time: backups, drills, provision runs and its health.

Each host has one file with a JSON object on each line, the oldest first. A damaged line is skipped, and a
history that can't be written fails no backup.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

from swarm.files import private_dir, write_atomically
from swarm.locks import hold
from swarm.paths import state_dir

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["HEALTH", "HOUR", "Entry", "append", "entries", "path", "recently"]

Entry = dict[str, Any]

HOUR = 3600.0
_KEPT = 400  # entries of a host
HEALTH = 168  # of them at most so many about its health: one an hour for a week
_SLACK = 50  # entries that may be too many until the file is trimmed
_LARGEST = 1 << 20  # bytes that are read, from the end; 400 entries have 60 KiB
_LINE = 4096  # bytes of one entry


def path(host: str) -> Path:
    """Return the path of the host's history, which need not exist."""
    return state_dir() / "history" / f"{host}.jsonl"


def append(host: str, kind: str, *, at: float | None = None, **values: Any) -> None:
    """Add an entry of this `kind` (backup, drill, provision, up, upgrade, health) that happened `at`, by default now.

    Nothing is raised if the file can't be written.
    """
    entry = {"kind": kind, "at": round(time.time() if at is None else at, 3), **values}
    line = json.dumps(entry, ensure_ascii=True) + "\n"
    if len(line) > _LINE:
        return
    with contextlib.suppress(OSError):
        folder = private_dir(private_dir(state_dir()) / "history")
        with hold(folder / f".{host}.lock"):
            _add(path(host), line)


def _add(file: Path, line: str) -> None:
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        # A crash may have left half a line, which must not swallow this one.
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, (b"\n" if torn else b"") + line.encode())
    finally:
        os.close(descriptor)
    found = _read(file)
    if len(found) > _KEPT + _SLACK or size > _LARGEST:
        write_atomically(file, "".join(json.dumps(each) + "\n" for each in _trimmed(found)), mode=0o600)


def _trimmed(found: Sequence[Entry]) -> list[Entry]:
    """Return the newest entries. Those about health, which are the most, must not displace the others."""
    health = [each for each in found if each["kind"] == "health"][-HEALTH:]
    others = [each for each in found if each["kind"] != "health"][-(_KEPT - len(health)) :]
    return sorted([*health, *others], key=lambda each: float(each["at"]))


def entries(host: str, *kinds: str) -> list[Entry]:
    """Return the newest entries of these kinds (default: of all), the oldest first. Damaged lines are left out."""
    try:
        found = _trimmed(_read(path(host)))
    except OSError:
        return []
    return [each for each in found if not kinds or each["kind"] in kinds]


def recently(host: str, kind: str, within: float, now: float) -> bool:
    """Whether an entry of this kind is less than `within` seconds old. One from the future does not count."""
    last = next(iter(entries(host, kind)[-1:]), None)
    return last is not None and 0 <= now - float(last["at"]) < within


def _read(file: Path) -> list[Entry]:
    with file.open("rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - _LARGEST))
        lines = stream.read(_LARGEST).split(b"\n")
    return [entry for line in lines if (entry := _parsed(line)) is not None]


def _parsed(line: bytes) -> Entry | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
        return None
    at = entry.get("at")
    usable = isinstance(at, (int, float)) and not isinstance(at, bool) and 0 <= at < 1e11  # noqa: PLR2004 - year 5138
    return entry if usable else None
