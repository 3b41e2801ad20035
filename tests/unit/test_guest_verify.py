"""How a verification runs, is bounded, is read and is shown. What it finds on a real guest is in tests/nspawn."""

from __future__ import annotations

import ast
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.commands import guest
from swarm.errors import CommandFailed, UsageError
from swarm.fleet.parts import connect
from swarm.guest import suite
from swarm.guest.suite import GROUPS, Check, read_report
from swarm.guest.verify import Verification
from swarm.paths import ROOT
from tests.unit.hostfiles import write

if TYPE_CHECKING:
    from tests.conftest import Dirs

GUEST = ROOT / "tests" / "guest"
LONGEST = 72 - len("  ✓ ")  # characters that a line of the table leaves for a sentence


def sentences() -> dict[str, str]:
    """The sentence of each promise, by module and name."""
    found = {}
    for path in GUEST.glob("test_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found[f"{path.stem}.{node.name}"] = ast.get_docstring(node) or ""
    return found


def test_every_promise_is_one_short_sentence() -> None:
    """Each promise is a sentence that fits into one line of the table, and belongs to a group."""
    found = sentences()
    assert len(found) == 44
    assert [text for text in found.values() if not 0 < len(text) <= LONGEST or not text.endswith(".")] == []
    assert {name.partition(".")[0] for name in found} == set(GROUPS)
    assert len(set(found.values())) == len(found)


CASES = (
    ("test_system", "It waits.", '<skipped message="Skipped: no TPM"/>'),
    ("test_boot", "It holds.", ""),
    ("test_boot", "It breaks.", '<failure message="AssertionError: found 3&#10;more">x</failure>'),
    ("test_docker", "It is false.", '<failure message="assert 1 == 2"/>'),
    ("test_docker", "It says nothing.", "<failure/>"),
)
FOUND = (
    Check("It holds.", "kept", "", "boot"),
    Check("It breaks.", "broken", "found 3", "boot"),
    Check("It is false.", "broken", "1 == 2", "Docker"),
    Check("It says nothing.", "broken", "", "Docker"),
    Check("It waits.", "skipped", "no TPM", "system"),
    Check("d", "broken", "failed on setup", "system"),
)


def report(folder: Path, *cases: str) -> Path:
    """A JUnit report with these test cases."""
    path = folder / "report.xml"
    path.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>", encoding="utf-8")
    return path


def test_report(tmp_path: Path) -> None:
    """A report is read as checks in the order of their groups, each with the first line of its reason."""
    cases = [
        f"<testcase classname='tests.guest.{module}' name='x'><properties><property name='promise' value='{text}'/>"
        f"</properties>{result}</testcase>"
        for module, text, result in CASES
    ]
    path = report(tmp_path, *cases, "<testcase name='d'><error message='failed on setup'/></testcase>")
    assert tuple(read_report("zap", path)) == FOUND


def test_long_reason(tmp_path: Path) -> None:
    """A reason is cut to what people still read."""
    path = report(tmp_path, f"<testcase name='d'><failure message='{'x' * 5000}'/></testcase>")
    assert read_report("zap", path)[0].detail == "x" * 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "left no report: No such file or directory"),
        (b"", "report can't be read"),
        (b"<testsuites>", "report can't be read"),
        (b"\xff\xfe\xff", "report can't be read"),
        (b"<?xml version='1.0' encoding='none'?><a/>", "report can't be read"),
        (b"<a>" + b"x" * (8 << 20) + b"</a>", "report is larger than 8 MiB"),
    ],
)
def test_bad_report(content: bytes | None, message: str, tmp_path: Path) -> None:
    """A report that is missing, damaged or endless fails that host with a sentence."""
    path = tmp_path / "report.xml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CommandFailed, match=f"zap: the suite's {message}|zap: the suite {message}"):
        read_report("zap", path)


@given(st.binary(max_size=200))
def test_any_report(content: bytes) -> None:
    """Whatever bytes a report holds, it is read or refused with CommandFailed."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.xml"
        path.write_bytes(content)
        with pytest.raises(CommandFailed):
            read_report("zap", path)


def test_table() -> None:
    """The table has one line for each promise, in groups, and reasons only where there are any."""
    assert Verification("zap", FOUND[:2] + FOUND[4:5]).lines() == [
        "[bold]boot[/]",
        "  [green]✓[/] It holds.",
        "  [red]✗[/] It breaks.",
        "      [dim]found 3[/]",
        "[bold]system[/]",
        "  [dim]– It waits.[/]",
        "      [dim]no TPM[/]",
    ]


def test_table_escapes_markup() -> None:
    """What a guest says cannot be markup."""
    line = Verification("zap", (Check("It breaks.", "broken", "[red]x[/]", "boot"),)).lines()[2]
    assert line == r"      [dim]\[red]x\[/][/]"


@pytest.mark.parametrize(
    ("checks", "summary", "code"),
    [
        (FOUND, "6 promises: 1 kept, 4 broken, 1 skipped", 1),
        (FOUND[:1], "1 promises: 1 kept", 0),
        (FOUND[4:5], "1 promises: 0 kept, 1 skipped", 0),
        ((), "0 promises: 0 kept", 0),
    ],
)
def test_summary(checks: tuple[Check, ...], summary: str, code: int) -> None:
    """Promises are counted, and a broken one makes the exit code 1; nothing is ever changed."""
    found = Verification("zap", checks)
    assert (found.summary, found.exit_code, found.changed) == (summary, code, False)


def test_json() -> None:
    """In JSON each check carries the keys that scripts rely on."""
    found = Verification("zap", FOUND[1:2]).to_json()
    check = {"host": "zap", "text": "It breaks.", "result": "broken", "detail": "found 3", "group": "boot"}
    assert found == {"host": "zap", "checks": [check]}


def test_json_of_a_host_that_can_not_be_tested(
    dirs: Dirs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In JSON a host that could not be tested has an object with its error, among the checks of the others."""
    for name in ("bee", "cat"):
        write(dirs, name)
    monkeypatch.setattr("swarm.guest.verify.verify", lambda *_, **__: Verification("cat", FOUND[:1]))
    monkeypatch.setattr(guest, "connect", lambda host: host.name == "cat" or connect(host))
    assert guest.verify("bee,cat", junit="", as_json=True, limit=60) == 1
    failed, check = json.loads(capsys.readouterr().out)
    assert failed["host"] == "bee"
    assert "pinned" in failed["error"]["message"]
    assert check == {"host": "cat", **asdict(FOUND[0])}


def test_a_report_that_can_not_be_written(
    dirs: Dirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--junit is refused before the guest is tested, not when the results would be lost; other files are no problem."""
    write(dirs, "cat")
    monkeypatch.setattr("swarm.guest.verify.verify", lambda *_, **__: Verification("cat", FOUND[:1]))
    monkeypatch.setattr(guest, "connect", lambda _: None)
    (tmp_path / "old.xml").touch()
    for path in (tmp_path, tmp_path / "none" / "report.xml", tmp_path / "old.xml" / "report.xml"):
        with pytest.raises(UsageError, match="--junit"):
            guest.verify("cat", junit=str(path), as_json=True, limit=60)
    for path in (tmp_path / "old.xml", tmp_path / "new.xml", Path("new.xml"), Path("/dev/null")):
        assert guest.verify("cat", junit=str(path), as_json=True, limit=60) == 0


def python(script: str) -> list[str]:
    """The command that runs a Python script in place of the suite."""
    return [sys.executable, "-u", "-c", script]


def test_output_is_followed() -> None:
    """Each line of the suite is handed on when it comes, cut to what people still read, the last one included."""
    seen: list[str] = []
    suite.run("zap", python("print('one'); print('é' * 5000); print('end', end=''); exit(1)"), seen.append)
    assert seen == ["one", "é" * 200, "end"]


def test_output_without_end() -> None:
    """A line without an end is not kept in memory."""
    import tracemalloc

    tracemalloc.start()
    suite.run("zap", python("for _ in range(2000): print('x' * 50_000, end='')"), lambda _: None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize(
    ("script", "message", "hint"),
    [
        ("print('usage'); exit(4)", "the suite could not run: pytest's exit code is 4", "usage"),
        ("exit(2)", "the suite could not run: pytest's exit code is 2", None),
        ("import os; os.kill(os.getpid(), 9)", "the suite could not run: signal 9 killed it", None),
        ("exit(70)", "the guest's answer is larger than 4 MiB, or never ends", None),
        ("raise MemoryError", "the guest's answer is larger than 4 MiB, or never ends", None),
    ],
)
def test_suite_that_cannot_run(script: str, message: str, hint: str | None) -> None:
    """A suite that can't run fails that host, with the reason and the end of its output."""
    with pytest.raises(CommandFailed) as caught:
        suite.run("zap", python(script), lambda _: None)
    assert (caught.value.message, caught.value.hint) == (f"zap: {message}", hint)


def test_last_lines() -> None:
    """The error shows the last eight lines of the output."""
    with pytest.raises(CommandFailed) as caught:
        suite.run("zap", python("for number in range(100): print(number)\nexit(3)"), lambda _: None)
    assert caught.value.hint == "\n".join(map(str, range(92, 100)))


@pytest.mark.parametrize("code", [0, 1])
def test_suite_that_ran(code: int) -> None:
    """A broken promise is no error."""
    suite.run("zap", python(f"exit({code})"), lambda _: None)


@pytest.mark.parametrize(
    ("script", "total", "silence", "message"),
    [
        ("import time; time.sleep(600)", 600, 0.5, "made no progress for 0.5 s"),
        ("import time\nwhile True: print(1); time.sleep(0.1)", 1, 600, "timed out after 1.0 s"),
        ("while True: print(1)", 1, 600, "timed out after 1.0 s"),
        (
            "import os, time; os.close(1); os.close(2); time.sleep(600)",
            600,
            0.5,
            "made no progress for 0.5 s",
        ),
    ],
)
def test_time_limits(script: str, total: float, silence: float, message: str) -> None:
    """A suite that hangs, drips or never ends is killed, and fails that host."""
    begin = time.monotonic()
    with pytest.raises(CommandFailed) as caught:
        suite.run("zap", python(script), lambda _: None, total=total, silence=silence)
    assert time.monotonic() - begin < 30
    assert caught.value.message == f"zap: the verification {message}"
    assert caught.value.hint == "run the same command again"


def test_arguments(tmp_path: Path) -> None:
    """The suite is given the host, the configuration with the kept connection, and sudo if the login is not root."""
    plain, sudo = (suite.arguments("zap", tmp_path, sudo=sudo) for sudo in (False, True))
    assert [word for word in sudo if word not in plain] == ["--sudo"]
    for word in (
        str(GUEST),
        "--hosts=ssh://zap",
        f"--ssh-config={tmp_path}/ssh_config",
        f"--expect={tmp_path}/expect.json",
        f"--junit-xml={tmp_path}/report.xml",
    ):
        assert word in plain


def suite_on(folder: Path, ssh: str, monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """Run the checks of one module with a program that stands in for ssh, and return what they found."""
    program = folder / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nfor last; do :; done\n{ssh}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    (folder / "expect.json").write_text(json.dumps({"tpm": True}), encoding="utf-8")
    (folder / "ssh_config").touch()
    command = suite.arguments("zap", folder, sudo=False)
    command[command.index(str(GUEST))] += "/test_boot.py"
    suite.run("zap", command, lambda _: None, total=120, silence=60)
    return read_report("zap", folder / "report.xml")


def test_noisy_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a login prints is not the reason of a broken promise."""
    found = suite_on(tmp_path, 'echo Welcome; echo trouble >&2\nexec sh -c "$last"', monkeypatch)
    assert (
        found[1].detail.startswith("exit code 1 (asked by: test -c /dev/tpm0 ") or found[1].result == "kept"
    )


def test_endless_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that answers without an end is given up before it fills the memory."""
    with pytest.raises(CommandFailed, match="zap: the guest's answer is larger than 4 MiB, or never ends"):
        suite_on(tmp_path, "exec yes", monkeypatch)


def test_broken_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If ssh itself fails, the promise is broken with ssh's own reason."""
    found = suite_on(tmp_path, "echo 'Connection closed' >&2; exit 255", monkeypatch)
    assert found[1].detail == "ssh failed: Connection closed"
