"""Where ./inv writes to: readers that have gone, closed streams, full disks and terminals without Unicode."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

TASKS = '''
import sys
from swarm.front.task import task

@task
def chatter(_, code=0):
    """Ask, talk, then write a line of data."""
    from swarm.console import Talk, screen
    Talk(screen()).ask("continue?")
    for number in range(3):
        Talk(screen()).done(f"line {number} \u202e")
    screen().text(["data \u2713"])
    return code

@task
def judge(_, error=False, json=False):
    """Run two steps on two hosts, of which one may fail, and show each with its verdict."""
    from swarm.commands.render import Done, render
    from swarm.commands.run import Outcome
    from swarm.errors import Unfit

    def step(text):
        good = Outcome("a", Done(True, text), None, 1.0)
        bad = Outcome("b", None, Unfit("no disk"), 1.0)
        return render([good, bad if error else good], as_json=json)

    code = max(step("first"), step("second"))
    with open("steps", "w") as file:
        file.write("both")
    return code

@task
def late(_):
    """Write a line now and one when stdin ends."""
    print("early", flush=True)
    sys.stdin.read()
    print("late")
'''


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, small_project: Callable[[Path, str], list[str]]
) -> Path:
    """Give a project with the tasks above."""
    folder = tmp_path_factory.mktemp("project")
    small_project(folder, TASKS)
    return folder


def started(project: Path) -> list[str]:
    """Return what ./inv starts."""
    return [sys.executable, "-P", str(project / "swarm" / "__main__.py")]


def environment() -> dict[str, str]:
    """Return an environment in which Python buffers its output, as it does by default."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}


def test_a_reader_that_has_gone_is_no_error(project: Path) -> None:
    """`./inv TASK | head -1` writes nothing to stderr."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*started(project), "late"],
        cwd=project,
        env=environment(),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "early\n"
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_failure(project: Path, closed: str) -> None:
    """A task runs as usual where stdin, stdout or stderr is closed, and shows no traceback."""
    command = shlex.join([*started(project), "chatter", "--code", "3"])
    done = subprocess.run(
        ["sh", "-c", f"{command} {closed}"], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert ("data" in done.stdout) is (">&-" not in closed.replace("2>&-", ""))


def test_talk_that_has_no_reader_is_dropped(project: Path) -> None:
    """When the reader of stderr has gone, the task finishes, writes its data and keeps its exit code."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*started(project), "chatter", "--code", "3"],
        cwd=project,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=writing,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stdout) == (3, "data ✓\n")


def test_a_reader_of_both_that_has_gone_is_no_failure(project: Path) -> None:
    """`./inv TASK 2>&1 | head -1` ends as `./inv TASK | head -1` does: with SIGPIPE's code."""
    reading, writing = os.pipe()
    os.close(reading)
    argv = [*started(project), "chatter", "--code", "3"]
    done = subprocess.run(argv, cwd=project, env=environment(), stdout=writing, stderr=writing, check=False)
    os.close(writing)
    assert done.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize("as_json", ["", "--json"])
@pytest.mark.parametrize(("word", "code"), [("", 0), ("--error", 1)])
def test_a_verdict_survives_its_reader(project: Path, as_json: str, word: str, code: int) -> None:
    """`./inv provision | head -1` finishes every step, and its exit code is the run's own."""
    reading, writing = os.pipe()
    os.close(reading)
    (project / "steps").unlink(missing_ok=True)
    argv = [*started(project), "judge", *filter(None, (word, as_json))]
    done = subprocess.run(argv, cwd=project, env=environment(), stdout=writing, stderr=writing, check=False)
    os.close(writing)
    assert (done.returncode, (project / "steps").read_text()) == (code, "both")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_unicode_gets_escapes(project: Path, encoding: str) -> None:
    """Signs that the terminal's encoding does not have are escaped."""
    done = subprocess.run(
        [*started(project), "chatter"],
        cwd=project,
        env={**environment(), "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "data \\u2713\n")
    assert "\\u2713 line 0 \\u202e" in done.stderr


@pytest.mark.parametrize("word", ["--list", "--version"])
def test_output_that_goes_nowhere(project: Path, word: str) -> None:
    """Output of ./inv itself is no exception: a missing reader is no error, and a full disk is one sentence."""
    argv = started(project)
    with subprocess.Popen(
        [*argv, word],
        cwd=project,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*argv, word],
            cwd=project,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n")
