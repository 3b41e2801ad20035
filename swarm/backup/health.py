"""How a host's backups are doing, in a few words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarm.backup.record import Record

__all__ = ["ago", "health"]

_TOO_OLD = 2 * 86400  # seconds: a nightly backup that has been missed once, and then some


def health(record: Record, now: float) -> str:
    """Return the state of a host's backups. It begins with ✗ if it needs attention, and is empty without any.

    `now` is in seconds since 1970.
    """
    if record.result is None and not record.archives:
        return "✗ interrupted" if record.started else ""
    drill = record.drill.get("result")
    if record.result == "failure":
        return f"✗ failed {ago(now - record.ended)} ago"
    if record.succeeded < now - _TOO_OLD:
        return f"✗ last one {ago(now - record.succeeded)} ago" if record.succeeded else "✗ none succeeded"
    if drill == "failure":
        return f"✗ the drill failed {ago(now - float(record.drill.get('ended', 0)))} ago"
    words = f"{'warning' if record.result == 'warning' else 'ok'}, {ago(now - record.succeeded)} ago"
    return f"{words}, drill {ago(now - float(record.drill.get('ended', 0)))} ago" if drill else words


def ago(passed: float) -> str:
    """Format a duration in seconds coarsely: '3 d', '5 h', '12 min', '40 s'."""
    for size, unit in ((2 * 86400, "d"), (2 * 3600, "h"), (120, "min")):
        if passed >= size:
            return f"{passed / {'d': 86400, 'h': 3600, 'min': 60}[unit]:.0f} {unit}"
    return f"{max(passed, 0):.0f} s"
