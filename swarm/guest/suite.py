"""Run the suite in tests/guest as a child process, and read its report.

What it prints may come from a guest, so lines, output, report, memory and time all have limits.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from xml.etree import ElementTree as ET

from swarm.deadline import Deadline
from swarm.errors import CommandFailed
from swarm.guest.bounded import LONGEST
from swarm.paths import ROOT
from swarm.ssh.session import surroundings
from swarm.text import seconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["GROUPS", "MEMORY", "TOO_LARGE", "TOTAL", "Check", "Result", "arguments", "read_report", "run"]

Result = Literal["kept", "broken", "skipped"]

# The groups of checks, in the order of the table, by the modules of tests/guest.
GROUPS = {
    "test_boot": "boot",
    "test_firewall": "firewall",
    "test_network": "network",
    "test_docker": "Docker",
    "test_openclaw": "OpenClaw",
    "test_agentmon": "agentmon",
    "test_system": "system",
}
# Bytes of memory that the suite may allocate. It needs 50 MiB itself.
MEMORY = 128 << 20
TOO_LARGE = 70  # the suite's exit code when a guest's answer is too large (EX_SOFTWARE of sysexits.h)
TOTAL = 1800.0  # seconds for all checks; they take 5 on a quiet machine and up to 300 under emulation
_SILENCE = 300.0  # seconds for one check
_WIDTH = 200  # characters of a line or a detail; people must still be able to read it
_KEPT = 50  # lines of output that an error may show
_REPORT = 8 << 20  # bytes; the report of 33 broken promises takes 60 KiB
_PASSED = (0, 1)  # pytest's exit codes when all tests ran: with and without success


@dataclass(frozen=True)
class Check:
    """One promise about the host, whether it is kept, and why not."""

    text: str
    result: Result
    detail: str
    group: str


def arguments(alias: str, folder: Path, *, sudo: bool) -> list[str]:
    """Return the command line of the suite for the host `alias`.

    `folder` holds expect.json and ssh_config, and gets report.xml. With `sudo` the login is not root.
    """
    return [
        *(sys.executable, "-m", "pytest", str(ROOT / "tests" / "guest")),
        *(f"--rootdir={ROOT}", "-c", str(ROOT / "pyproject.toml")),
        *(f"--hosts=ssh://{alias}", f"--ssh-config={folder / 'ssh_config'}", *(["--sudo"] if sudo else [])),
        *(f"--expect={folder / 'expect.json'}", f"--junit-xml={folder / 'report.xml'}"),
        *("-o", "junit_family=xunit1", "-p", "no:cacheprovider", "-p", "no:unraisableexception"),
        *("-q", "--tb=line", "-v"),
    ]


def run(
    alias: str,
    command: list[str],
    note: Callable[[str], None],
    *,
    total: float = TOTAL,
    silence: float = _SILENCE,
) -> None:
    """Run the suite and hand each line of its output to `note`. A broken promise is no error.

    It may take `total` seconds, and `silence` seconds without output. Raise CommandFailed if it takes longer or fails.
    """
    deadline = Deadline(total)
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=surroundings(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            tail = _follow(process, note, deadline, silence)
            code = process.wait(min(silence, deadline.remaining))
        except (TimeoutError, subprocess.TimeoutExpired):
            raise CommandFailed(_late(alias, deadline, silence), "run the same command again") from None
        finally:
            process.kill()  # does nothing to one that has ended
    if code == TOO_LARGE or any("MemoryError" in line for line in tail):
        raise CommandFailed(f"{alias}: the guest's answer is larger than {LONGEST >> 20} MiB, or never ends")
    if code not in _PASSED:
        ended = f"signal {-code} killed it" if code < 0 else f"pytest's exit code is {code}"
        raise CommandFailed(f"{alias}: the suite could not run: {ended}", "\n".join(tail[-8:]) or None)


def _follow(
    process: subprocess.Popen[bytes], note: Callable[[str], None], deadline: Deadline, silence: float
) -> list[str]:
    """Read the output to its end and return the last lines. Raise TimeoutError."""
    assert process.stdout is not None  # noqa: S101 - a pipe, as run() asked for
    kept, rest = deque[str](maxlen=_KEPT), b""
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        while not deadline.expired and ready.select(min(silence, deadline.remaining)):
            data = os.read(process.stdout.fileno(), 1 << 16)
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[: 4 * _WIDTH]  # a character takes up to four bytes
            for line in lines if data else [*lines, rest]:
                text = line.decode("utf-8", "replace").strip()[:_WIDTH]
                kept.append(text)
                note(text)
            if not data:
                return [text for text in kept if text]
    raise TimeoutError


def _late(alias: str, deadline: Deadline, silence: float) -> str:
    if deadline.expired:
        return f"{alias}: the verification timed out after {seconds(deadline.limit)}"
    return f"{alias}: the verification made no progress for {seconds(silence)}"


def read_report(alias: str, path: Path) -> list[Check]:
    """Return the checks of a JUnit report, in the order of their groups. Raise CommandFailed if it can't be read."""
    try:
        with path.open("rb") as file:
            text = file.read(_REPORT + 1)
        if len(text) > _REPORT:
            raise CommandFailed(f"{alias}: the suite's report is larger than {_REPORT >> 20} MiB")
        found = [_check(case) for case in ET.fromstring(text).iter("testcase")]
    except OSError as error:
        raise CommandFailed(f"{alias}: the suite left no report: {error.strerror}") from None
    except (ET.ParseError, ValueError, LookupError) as error:
        raise CommandFailed(f"{alias}: the suite's report can't be read: {error}") from None
    order = [*GROUPS.values()]
    return sorted(found, key=lambda check: order.index(check.group))


def _check(case: ET.Element) -> Check:
    named = case.find("properties/property[@name='promise']")
    text = case.get("name", "") if named is None else named.get("value", "")
    group = GROUPS.get(case.get("classname", "").rpartition(".")[2], "system")
    outcomes: tuple[tuple[str, Result], ...] = (
        ("failure", "broken"),
        ("error", "broken"),
        ("skipped", "skipped"),
    )
    for tag, result in outcomes:
        found = case.find(tag)
        if found is not None:
            return Check(text, result, _detail(found.get("message", "")), group)
    return Check(text, "kept", "", group)


def _detail(message: str) -> str:
    """The first line of a failure's message, without what pytest puts before it."""
    first = message.strip().partition("\n")[0]
    for prefix in ("AssertionError: ", "assert ", "Skipped: "):
        first = first.removeprefix(prefix)
    return first[:_WIDTH]
