"""The command line: what a person sees when a task fails, is stopped or misspelled, or when help is requested."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

TASKS = '''
import json, os, sys, time
from swarm.front.task import remainder, task
from swarm.errors import Unfit

@task(help={"host": "a host's name"})
def provision(_, host="all", yes=False):
    """Make a VM."""
    print(json.dumps({"host": host, "yes": yes, "rest": remainder()}))

@task
def another(_):
    """Come second in this file, though not in the alphabet."""

@task
def refuse(_):
    """Fail as swarm does."""
    raise Unfit("the disk [/dev/vda] is full", "free some space")

@task
def code(_):
    """Return a number."""
    return 2

@task
def trip(_):
    """Fail as the system does."""
    open("/no/such/file")

@task
def lose(_):
    """Lose a connection."""
    raise BrokenPipeError(32, "Broken pipe")

@task
def bug(_):
    """Fail by a mistake in the program."""
    raise ValueError("[red]a mistake[/] \\x1b]0;owned\\x07")

@task
def hang(_):
    """Wait to be stopped."""
    try:
        print("hanging", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)
'''


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, small_project: Callable[[Path, str], list[str]]
) -> Path:
    """Give a project with the tasks above."""
    folder = tmp_path_factory.mktemp("project")
    small_project(folder, TASKS)
    return folder


@pytest.fixture(params=["./inv", "inv"])
def argv(request: pytest.FixtureRequest, project: Path) -> list[str]:
    """Give the beginning of a command: what ./inv starts, and the program inv of the virtual environment."""
    return started(project) if request.param == "./inv" else [str(Path(sys.executable).parent / "inv")]


def started(project: Path) -> list[str]:
    """Return what ./inv starts."""
    return [sys.executable, "-P", str(project / "swarm" / "__main__.py")]


def environment() -> dict[str, str]:
    """Return an environment in which Python buffers its output and keeps compiled modules, as it does by default."""
    return {
        key: value
        for key, value in os.environ.items()
        if key not in {"PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}
    }


def run(argv: list[str], *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder and return its output and exit code."""
    return subprocess.run(
        [*argv, *words], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def inv(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ./inv of the project from another folder."""
    return run(started(project), *words, cwd=Path("/"))


def test_an_error_is_one_sentence_and_a_hint(argv: list[str], project: Path) -> None:
    """A SwarmError ends with its code, its sentence and its hint on stderr, without a traceback."""
    done = run(argv, "refuse", cwd=project)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: the disk [/dev/vda] is full\n  hint: free some space\n"


def test_an_error_of_the_system_is_one_sentence(argv: list[str], project: Path) -> None:
    """A missing file is named, without a traceback."""
    done = run(argv, "trip", cwd=project)
    assert (done.returncode, done.stderr) == (1, "error: No such file or directory: /no/such/file\n")


def test_a_broken_connection_is_an_error(argv: list[str], project: Path) -> None:
    """A broken pipe other than stdout's is a failure."""
    done = run(argv, "lose", cwd=project)
    assert (done.returncode, done.stderr) == (1, "error: Broken pipe\n")


def test_the_number_that_a_task_returns_is_the_exit_code(argv: list[str], project: Path) -> None:
    """That is how `inv plan` reports that there are changes."""
    done = run(argv, "code", cwd=project)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_a_mistake_in_the_program_shows_where_it_is(project: Path) -> None:
    """An unforeseen exception keeps its traceback, so that it can be reported; no control character is sent."""
    done = inv(project, "bug")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.endswith("ValueError: [red]a mistake[/] \\x1b]0;owned\\x07\n")


@pytest.mark.parametrize(
    ("number", "sentence"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "stopped by SIGTERM")]
)
def test_a_stopped_task_cleans_up(
    argv: list[str], project: Path, number: signal.Signals, sentence: str
) -> None:
    """Ctrl-C and `kill` let a task clean up, and say how to continue."""
    process = subprocess.Popen(
        [*argv, "hang"], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "hanging\n"
    process.send_signal(number)
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (128 + number, "cleaned up\n")
    assert stderr == f"error: {sentence}\n  hint: run the same command again to continue\n"


def test_words_after_two_dashes_keep_their_quotes(argv: list[str], project: Path) -> None:
    """What follows -- reaches a task word by word, as the shell passed it."""
    words = ["a  b", "c'd", "", "--host", "--", "$HOME"]
    done = run(argv, "provision", "--host", "zap", "--", *words, cwd=project)
    assert json.loads(done.stdout) == {"host": "zap", "yes": False, "rest": words}


def test_without_a_task_there_is_an_overview(project: Path) -> None:
    """Bare ./inv shows each task with its sentence in the order of the file, and how to get more."""
    done = inv(project)
    lines = [line.split() for line in done.stdout.splitlines()]
    names = [line[0] for line in lines if line and line[0] in {"provision", "another", "refuse"}]
    assert (done.returncode, names) == (0, ["provision", "another", "refuse"])
    assert "  provision   Make a VM.\n" in done.stdout
    assert "./inv help TASK" in done.stdout


def test_the_version_is_that_of_the_project(project: Path) -> None:
    """--version shows the version in pyproject.toml."""
    stated = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert inv(project, "--version").stdout == f"swarm {stated}\n"


def test_modules_are_compiled_once(project: Path) -> None:
    """Invoke forbids Python to keep compiled modules; ./inv allows it, since it makes later starts faster."""
    (project / "swarm" / "late.py").write_text("", encoding="utf-8")
    (project / "tasks.py").write_text(f"import swarm.late\n{TASKS}", encoding="utf-8")
    subprocess.run([*started(project), "code"], env=environment(), check=False)
    assert list((project / "swarm" / "__pycache__").glob("late.*.pyc"))
