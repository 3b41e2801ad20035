"""`inv verify`: run the testinfra suite in tests/guest on a host and show each promise with its result."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from xml.etree import ElementTree as ET

from swarm.errors import CommandFailed
from swarm.paths import ROOT
from swarm.ssh.remote import Remote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from swarm.console import Talk

__all__ = ["Expected", "Promise", "count", "verify"]

Result = Literal["kept", "broken", "skipped"]
_LONGEST = 200  # characters of a detail; a table needs lines that people still read
SIGNS: dict[Result, str] = {"kept": "✓", "broken": "✗", "skipped": "–"}


@dataclass(frozen=True)
class Expected:
    """What a host file promises. None or empty: it is not known, and not tested."""

    user: str = "openclaw"
    port: int = 18789
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


@dataclass(frozen=True)
class Promise:
    """One sentence about the host, and what was found."""

    text: str
    result: Result
    detail: str

    @property
    def row(self) -> tuple[str, str, str]:
        """The promise as a row of a table."""
        return SIGNS[self.result], self.text, self.detail


def verify(
    config: Path, alias: str, expected: Expected, talk: Talk, *, junit: Path | None = None
) -> list[Promise]:
    """Test every promise on the host that `ssh -F config alias` reaches, and return each with its result; a broken one is no error.

    With `junit`, also write the report in JUnit's XML. Raise Unreachable if the host does not answer, CommandFailed if the suite
    itself can't run.
    """
    # Who logs in? This also says clearly, before the suite starts, if nobody can.
    remote = Remote(config, alias, root=False)
    root = remote.check("id -u", "looking up who we are").strip() == "0"
    with (
        tempfile.TemporaryDirectory(prefix="swarm-verify-") as folder,
        talk.step("verify", silent=True) as meter,
    ):
        expect, report, own = (Path(folder) / name for name in ("expect.json", "report.xml", "ssh_config"))
        expect.write_text(json.dumps(asdict(expected)), encoding="utf-8")
        own.write_text(
            remote.own_config(), encoding="utf-8"
        )  # testinfra has an option for ssh's options, but forgets them
        command = [
            sys.executable,
            "-m",
            "pytest",
            str(ROOT / "tests" / "guest"),
            f"--rootdir={ROOT}",
            "-c",
            str(ROOT / "pyproject.toml"),
        ]
        command += [
            f"--hosts=ssh://{alias}",
            f"--ssh-config={own}",
            *([] if root else ["--sudo"]),
        ]
        command += [
            f"--expect={expect}",
            f"--junit-xml={report}",
            "-o",
            "junit_family=xunit1",
            "-p",
            "no:cacheprovider",
            "-q",
            "--tb=line",
            "-v",
        ]
        lines = []
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None  # noqa: S101 - a pipe, as asked for above
            for line in process.stdout:
                lines.append(line.rstrip())
                meter.note(line.strip()[:100])
        if process.returncode > 1 or not report.is_file():  # 1: some test failed; more: pytest itself did
            raise CommandFailed(
                f"{alias}: the suite could not run (pytest's exit code {process.returncode})",
                "\n".join(lines[-8:]),
            )
        if junit:
            junit.write_bytes(report.read_bytes())
        return read_report(report.read_text(encoding="utf-8"))


def count(promises: Sequence[Promise]) -> str:
    """Return in a few words how many promises are kept, broken and skipped."""
    numbers = Counter(promise.result for promise in promises)
    parts = [
        f"{numbers[result]} {result}"
        for result in ("kept", "broken", "skipped")
        if numbers[result] or result == "kept"
    ]
    return f"{len(promises)} promises: {', '.join(parts)}"


def read_report(xml: str) -> list[Promise]:
    """Return the promises of a JUnit report."""
    return [_promise(case) for case in ET.fromstring(xml).iter("testcase")]


def _promise(case: ET.Element) -> Promise:
    named = case.find("properties/property[@name='promise']")
    text = named.get("value", "") if named is not None else case.get("name", "")
    for tag, result in (("failure", "broken"), ("error", "broken"), ("skipped", "skipped")):
        found = case.find(tag)
        if found is not None:
            return Promise(
                text, "broken" if result == "broken" else "skipped", _detail(found.get("message", ""))
            )
    return Promise(text, "kept", "")


def _detail(message: str) -> str:
    first = message.strip().splitlines()[0] if message.strip() else ""
    for prefix in ("AssertionError: ", "assert ", "Skipped: "):
        first = first.removeprefix(prefix)
    return first[:_LONGEST]
