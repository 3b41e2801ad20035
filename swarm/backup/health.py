"""How a host's backups are doing, in a few words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.backup.retention import SKEW

if TYPE_CHECKING:
    from swarm.backup.record import Record

__all__ = ["ago", "health", "of_backup", "of_drill"]

_TOO_OLD = 2 * 86400  # seconds: a nightly backup that has been missed once, and then some


def health(record: Record, now: float) -> str:
    """Return the state of a host's backups. It begins with ✗ if it needs attention, and is empty without any.

    `now` is in seconds since 1970.
    """
    backup, drill = of_backup(record, now), of_drill(record, now)
    if backup.startswith("✗") or not drill or not backup:
        return backup
    return f"✗ the drill {drill.removeprefix('✗ ')}" if drill.startswith("✗") else f"{backup}, drill {drill}"


def of_backup(record: Record, now: float) -> str:
    """Return the state of a host's backups alone: 'ok, 5 h ago', '✗ failed 3 h ago', or nothing without any."""
    if record.result is None and not record.archives:
        return "✗ interrupted" if record.started else ""
    if record.result == "failure":
        return f"✗ failed {ago(now - record.ended)} ago"
    if record.succeeded > now + SKEW.total_seconds():
        return f"✗ last one dated {ago(record.succeeded - now)} in the future: check the clock"
    if record.succeeded < now - _TOO_OLD:
        return f"✗ last one {ago(now - record.succeeded)} ago" if record.succeeded else "✗ none succeeded"
    return f"{'warning' if record.result == 'warning' else 'ok'}, {ago(now - record.succeeded)} ago"


def of_drill(record: Record, now: float) -> str:
    """Return the state of the last drill: '4 d ago', '✗ failed 4 d ago', or nothing without any."""
    if not (result := record.drill.get("result")):
        return ""
    passed = f"{ago(now - float(record.drill.get('ended', 0)))} ago"
    return f"✗ failed {passed}" if result == "failure" else passed


def ago(passed: float) -> str:
    """Format a duration in seconds coarsely: '3 d', '5 h', '12 min', '40 s'."""
    for size, unit in ((2 * 86400, "d"), (2 * 3600, "h"), (120, "min")):
        if passed >= size:
            return f"{passed / {'d': 86400, 'h': 3600, 'min': 60}[unit]:.0f} {unit}"
    return f"{max(passed, 0):.0f} s"
