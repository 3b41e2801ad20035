"""Made-up hosts for the tests of what `inv status` writes: one that is well, one in trouble, and a hostile one."""

from __future__ import annotations

from datetime import UTC, datetime

from swarm import history
from swarm.fleet.status import Archives, Inside, Status
from swarm.timers import Timer

__all__ = ["HOSTILE", "NOW", "remember", "troubled", "well"]

NOW = 1_790_000_000.0
HOUR, DAY = 3600.0, 86400.0
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=alert(1)>\"'&"


def well(name: str = "ant") -> Status:
    """Return a host about which there is nothing to say."""
    return Status(
        host=name, vm="running", acceleration="KVM", ip="192.168.122.2", ssh="ok", drift="none",
        backup="ok, 5 h ago, drill 4 d ago", pinned=True,
        inside=Inside("2026.11.2", "ready", 20 << 30, 40 << 30, (2, 4096)),
        archives=Archives(
            "ok, 5 h ago, drill 4 d ago", "ok, 5 h ago", "4 d ago", "success", NOW - 5 * HOUR, NOW - 5 * HOUR,
            824_100_000, "content", "success", NOW - 4 * DAY, NOW - 4 * DAY,
        ),
        timers=(timer(name, "backup"), Timer(name, "drill", installed=False)),
    )  # fmt: skip


def timer(name: str, kind: str, result: str = "success", *, active: bool = True) -> Timer:
    """Return an installed timer."""
    moment = datetime.fromtimestamp(NOW, UTC)
    return Timer(name, kind, installed=True, active=active, next=moment, last=moment, result=result)


def troubled(name: str = "bee") -> Status:
    """Return a host with something wrong in every part."""
    return Status(
        host=name, vm="running", acceleration="emulation", ip="192.168.122.3", ssh="ok", drift="2 to change",
        backup="✗ failed 3 h ago", pinned=True,
        inside=Inside("2026.11.2", "not ready", 58 << 30, 2 << 30, (40, 64 << 20)),
        archives=Archives(
            "✗ failed 3 h ago", "✗ failed 3 h ago", "✗ failed 24 h ago", "failure", NOW - 3 * HOUR, NOW - 2 * DAY,
            824_100_000, "ciphertext", "failure", NOW - DAY, NOW - 8 * DAY,
        ),
        timers=(timer(name, "backup", "exit code 1"), timer(name, "drill", active=False)),
    )  # fmt: skip


def remember(name: str) -> None:
    """Write a history with 40 days of backups, a few provision runs, and a week of looks."""
    for day in range(40):
        at = NOW - (40 - day) * DAY
        result = {17: "failure", 25: "warning"}.get(day, "success")
        history.append(
            name,
            "backup",
            at=at,
            result=result,
            seconds=20 + day % 9 * 3.5,
            stored=500_000_000 + day * 7_000_000,
        )
    for number in range(5):
        history.append(name, "provision", at=NOW - number * DAY, seconds=38.0 + number * 4, changes=8)
    for hour in range(60):
        history.append(
            name, "health", at=NOW - (60 - hour) * HOUR, ok=hour not in {20, 21}, vm="running", ssh="ok"
        )
