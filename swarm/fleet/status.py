"""What is known about a host at one moment, and how it is shown in one row of a table. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from swarm.text import amount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from swarm.errors import SwarmError
    from swarm.timers import Timer

__all__ = ["COLUMNS", "FOREIGN", "FULL", "SPOOLED", "Archives", "Inside", "Status", "row", "shown"]

FOREIGN = "foreign"  # the state of a machine that swarm did not make
_HALTED = ("crashed", "paused")  # a VM that does not go on by itself, and that swarm has not stopped
FULL = 0.9  # the used share of a disk from which on a person must act; an update of OpenClaw needs 2 GB
SPOOLED = 16 << 20  # bytes of events that wait in a guest: a quarter of the hook's default limit
_VERIFIED = {
    "content": "verified",
    "ciphertext": "ciphertext",
}  # without the identity, the content can't be read
_ALWAYS = 6  # columns that are always shown
COLUMNS = (
    "host", "VM", "acceleration", "ip", "SSH", "drift", "OpenClaw", "disk", "backup", "drill", "timers", "agentmon",
)  # fmt: skip


@dataclass(frozen=True)
class Inside:
    """What the guest said. `gateway` is ready, not ready, no answer, or empty if it could not be asked.

    `used` and `free` are bytes of the root file system. `spool` is the number and the bytes of the agentmon events
    that wait, or None.
    """

    openclaw: str = ""
    gateway: str = ""
    used: int | None = None
    free: int | None = None
    spool: tuple[int, int] | None = None

    @property
    def ratio(self) -> float | None:
        """The used share of the root file system, as df computes it, or None."""
        if self.used is None or self.free is None or self.used + self.free <= 0:
            return None
        return self.used / (self.used + self.free)


@dataclass(frozen=True)
class Archives:
    """What this machine remembers about a host's backups. Times are seconds since 1970, and 0 for never.

    `backup` and `drill` are their state in words, which begin with ✗ if a person must act; `summary` is both in one
    phrase. `trouble` is what is wrong with the record.
    """

    summary: str = ""
    backup: str = ""
    drill: str = ""
    result: str = ""
    ended: float = 0.0
    succeeded: float = 0.0
    stored: int = 0
    verified: str = ""
    drill_result: str = ""
    drill_ended: float = 0.0
    drill_succeeded: float = 0.0
    trouble: SwarmError | None = None


@dataclass(frozen=True)
class Status:
    """A host's status. A field is empty where nothing is known.

    `backup` is the state of backups and drills in a few words; `archives` has the details.
    """

    host: str
    vm: str = ""
    acceleration: str = ""
    ip: str = ""
    ssh: str = ""
    drift: str = ""
    backup: str = ""
    pinned: bool = False
    inside: Inside = field(default_factory=Inside)
    archives: Archives = field(default_factory=Archives)
    timers: tuple[Timer, ...] | None = None  # None: there is no manager that could be asked

    @property
    def up(self) -> bool:
        """Whether the VM runs, or the machine that swarm did not make answers."""
        return self.vm == "running" or (self.vm == FOREIGN and self.ssh == "ok")

    @property
    def drifted(self) -> bool:
        """Whether the VM is not as its host file says."""
        return self.drift not in {"", "none"}

    def to_json(self) -> dict[str, Any]:
        """Return the status as plain data, with times in UTC."""
        inside, archives = self.inside, self.archives
        ratio = inside.ratio
        return {
            **{name: getattr(self, name) for name in ("host", "vm", "acceleration", "ip", "ssh", "drift", "backup")},
            "pinned": self.pinned,
            "openclaw": inside.openclaw,
            "gateway": inside.gateway,
            "disk_used_bytes": inside.used,
            "disk_free_bytes": inside.free,
            "disk_used_ratio": None if ratio is None else round(ratio, 4),
            "last_backup": _iso(archives.succeeded),
            "backup_result": archives.result,
            "backup_verified": archives.verified,
            "backup_stored_bytes": archives.stored,
            "last_drill": _iso(archives.drill_ended),
            "drill_result": archives.drill_result,
            "timers": None if self.timers is None else [each.to_json() for each in self.timers if each.installed],
            "spool": inside.spool and {"files": inside.spool[0], "bytes": inside.spool[1]},
        }  # fmt: skip


def row(status: Status) -> tuple[str, ...]:
    """Return the cells of a host's row. One that needs a person begins with ✗."""
    return (
        status.host,
        f"✗ {status.vm}" if status.vm in _HALTED else status.vm,
        status.acceleration,
        status.ip,
        status.ssh if status.ssh in {"", "ok"} else f"✗ {status.ssh}",
        f"✗ {status.drift}" if status.drifted else status.drift,
        _openclaw(status.inside),
        _disk(status.inside),
        _backup(status.archives),
        status.archives.drill,
        _timers(status.timers),
        _spool(status.inside),
    )


def shown(rows: Sequence[tuple[str, ...]]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return the columns and rows without the columns in which no host has anything, such as that of agentmon."""
    used = [n for n in range(len(COLUMNS)) if n < _ALWAYS or any(each[n] for each in rows)]
    return [COLUMNS[n] for n in used], [tuple(each[n] for n in used) for each in rows]


def _openclaw(inside: Inside) -> str:
    if not inside.openclaw:
        return inside.gateway if inside.gateway == "ready" else ""
    return (
        f"{inside.openclaw} ready"
        if inside.gateway == "ready"
        else f"✗ {inside.openclaw} {inside.gateway}".rstrip()
    )


def _disk(inside: Inside) -> str:
    if inside.ratio is None:
        return ""
    return f"{'✗ ' if inside.ratio >= FULL else ''}{inside.ratio:.0%}"


def _backup(archives: Archives) -> str:
    if not archives.backup or archives.backup.startswith("✗"):
        return archives.backup
    return f"{archives.backup}, {_VERIFIED.get(archives.verified, 'unverified')}"


def _timers(timers: tuple[Timer, ...] | None) -> str:
    if timers is None:
        return ""
    installed = [each for each in timers if each.installed]
    if bad := [each.kind for each in installed if each.failed]:
        return f"✗ {', '.join(bad)} failed"
    if idle := [each.kind for each in installed if not each.active]:
        return f"✗ {', '.join(idle)} stopped"
    return ", ".join(each.kind for each in installed) or "none"


def _spool(inside: Inside) -> str:
    if inside.spool is None:
        return ""
    files, size = inside.spool
    if not size:
        return "empty"
    return f"{'✗ ' if size >= SPOOLED else ''}{amount(size)} in {files}"


def _iso(seconds: float) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else None
