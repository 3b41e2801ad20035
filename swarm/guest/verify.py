"""`inv verify`: run the testinfra suite in tests/guest on a host, and show for each promise whether it is kept."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarm.deadline import Deadline
from swarm.errors import CommandFailed, UsageError
from swarm.guest import suite
from swarm.guest.suite import Check, Result

if TYPE_CHECKING:
    from swarm.console import Talk
    from swarm.ssh.guest import Guest

__all__ = ["Check", "Expected", "Verification", "verify"]

_SIGNS: dict[Result, tuple[str, str]] = {
    "kept": ("green", "✓"),
    "broken": ("red", "✗"),
    "skipped": ("dim", "–"),
}
# sudo sets SUDO_UID. Without it, and as root, the login itself is root's.
_LOGIN = 'if [ "$(id -u)" = 0 ] && [ -z "${SUDO_UID-}" ]; then echo root; else echo other; fi'
_LOGIN_TIME = 60  # seconds; a loaded guest under emulation takes ten


@dataclass(frozen=True)
class Expected:
    """What a host file promises. A value that is None or empty is not known, and not tested."""

    user: str = "openclaw"
    port: int = 18789
    ssh_port: int = 22
    secure_boot: bool = False
    tpm: bool = False
    share: tuple[str, str] | None = None  # tag and target
    swappiness: int | None = None
    timezone: str | None = None
    ssh_keys: tuple[str, ...] = ()
    openclaw_version: str | None = None
    buildx: bool = False
    tailscale: bool = False
    authorities: tuple[str, ...] = ()  # certificates in PEM form
    agentmon: bool = False  # whether events are sent
    filtered: bool = False  # whether the hypervisor filters what the guest may reach
    allow: tuple[str, ...] = ()  # and what it lets through besides the internet


@dataclass(frozen=True)
class Verification:
    """The checks of one host."""

    host: str
    checks: tuple[Check, ...]

    @property
    def changed(self) -> bool:
        """Verification never changes anything."""
        return False

    @property
    def exit_code(self) -> int:
        """1 if a promise is broken, else 0."""
        return int(any(check.result == "broken" for check in self.checks))

    @property
    def summary(self) -> str:
        """How many promises are kept, broken and skipped: '33 promises: 31 kept, 2 skipped'."""
        numbers = Counter(check.result for check in self.checks)
        parts = [f"{numbers[result]} {result}" for result in _SIGNS if numbers[result] or result == "kept"]
        return f"{len(self.checks)} promises: {', '.join(parts)}"

    def to_json(self) -> dict[str, Any]:
        """Return the checks as plain data. Each has the host's name, so that those of several hosts make one list."""
        return {"host": self.host, "checks": [{"host": self.host, **asdict(check)} for check in self.checks]}

    def lines(self) -> list[str]:
        """Return a table as lines of rich's markup: one for each promise, in groups, and one for each reason."""
        shown, group = [], ""
        for check in self.checks:
            if check.group != group:
                group = check.group
                shown.append(f"[bold]{group}[/]")
            shown += _lines(check)
        return shown


def _lines(check: Check) -> list[str]:
    from swarm.console import escape

    style, sign = _SIGNS[check.result]
    text = escape(check.text)
    shown = [f"  [dim]{sign} {text}[/]" if check.result == "skipped" else f"  [{style}]{sign}[/] {text}"]
    if check.detail:
        shown.append(f"      [dim]{escape(check.detail)}[/]")
    return shown


def verify(
    guest: Guest,
    expected: Expected,
    talk: Talk,
    *,
    junit: Path | None = None,
    limit: float | None = None,
) -> Verification:
    """Test every promise on the guest and return the results. A broken promise is no error.

    It may take `limit` seconds, suite.TOTAL by default. With `junit`, also write the report in JUnit's XML. Raise
    Unreachable if the guest can't be reached, CommandFailed if the suite can't run, takes too long or leaves no
    readable report, UsageError if the report can't be written.
    """
    # This also connects, so that the suite finds a connection, and says clearly why there is none.
    deadline = Deadline(limit or suite.TOTAL)
    login = guest.check(_LOGIN, "looking up the login user", timeout=min(_LOGIN_TIME, deadline.limit))
    sudo = login.split()[-1:] != ["root"]
    with (
        tempfile.TemporaryDirectory(prefix="swarm-verify-") as name,
        talk.step("verify", silent=True) as meter,
    ):
        folder = Path(name)
        (folder / "expect.json").write_text(json.dumps(asdict(expected)), encoding="utf-8")
        # testinfra has an option for ssh's options, but drops them.
        (folder / "ssh_config").write_text(guest.own_config(), encoding="utf-8")
        command = suite.arguments(guest.alias, folder, sudo=sudo)
        try:
            suite.run(guest.alias, command, lambda line: meter.note(line[:100]), total=deadline.remaining)
        except CommandFailed:
            guest.close()  # with the connection ends what a test still waits for
            raise
        report = folder / "report.xml"
        checks = suite.read_report(guest.alias, report)
        if junit:
            _save(report, junit)
    return Verification(guest.alias, tuple(checks))


def _save(report: Path, path: Path) -> None:
    try:
        path.write_bytes(report.read_bytes())
    except OSError as error:
        raise UsageError(f"the report can't be written to {path}: {error.strerror}") from None
