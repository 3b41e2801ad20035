"""What ./inv understands: requests for help in every form, options given twice, and mistakes, which it explains."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TASKS = '''
import json
from swarm.front.task import remainder, task

@task(help={"host": "a host's name"})
def provision(_, host="all", yes=False):
    """Make a VM."""
    print(json.dumps({"host": host, "yes": yes, "rest": remainder()}))

@task(help={"host": "a host's name", "timeout": "seconds"})
def start(_, host, timeout=900):
    """Start a VM."""
    print(json.dumps({"host": host, "timeout": timeout}))
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


def inv(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ./inv of the project from another folder."""
    return subprocess.run(
        [*started(project), *words],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "sentence", "hint"),
    [
        (["provisoin"], "there is no task 'provisoin'", "did you mean provision?"),
        (["zzz"], "there is no task 'zzz'", "./inv --list shows every task"),
        (["provision", "--hots", "zap"], "provision has no option --hots", "did you mean --host?"),
        (["provision", "--host"], "the option --host needs a value", "./inv --help provision says which"),
        (["start", "--hots", "zap"], "start has no option --hots", "did you mean --host?"),
        (["start", "--tiemout=5", "zap"], "start has no option --tiemout", "did you mean --timeout?"),
        (["start", "zap", "provision", "--yse"], "provision has no option --yse", "did you mean --yes?"),
        (["--lsit"], "./inv has no option --lsit", "did you mean --list?"),
        (["--help", "provison"], "there is no task 'provison'", "did you mean provision?"),
        (["help", "provison"], "there is no task 'provison'", "did you mean provision?"),
        (["start"], "start needs --host", "./inv --help start"),
        (
            ["start", "zap", "--timeout", "abc"],
            "--timeout: expected a number, not 'abc'",
            "for example: --timeout 60",
        ),
        (
            ["start", "zap", "--timeout=1 s"],
            "--timeout: expected a number, not '1 s'",
            "for example: --timeout 60",
        ),
        (
            ["--list-depth", "x", "--list"],
            "--list-depth: expected a number, not 'x'",
            "for example: --list-depth 60",
        ),
        (
            ["--print-completion-script", "tcsh"],
            "there is no completion script for 'tcsh'",
            "choose one of: bash, fish, zsh",
        ),
    ],
)
def test_a_misspelt_command_is_explained(project: Path, words: list[str], sentence: str, hint: str) -> None:
    """An unknown task or option is named, with the nearest one that exists."""
    done = inv(project, *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {sentence}")
    assert f"\n  hint: {hint}" in done.stderr


@pytest.mark.parametrize("words", ["--help", "-h", "help"])
def test_help_shows_the_tasks_and_the_options(project: Path, words: str) -> None:
    """A request for help without a task shows the overview and the options of ./inv itself."""
    done = inv(project, words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "  provision   Make a VM.\n" in done.stdout
    assert "--list-depth" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        "--help start",
        "help start",
        "start --help",
        "start -h",
        "start --host --help",
        "start --timeout --help",
        "start --host zap --help",
        "provision --yes start --host provision -h",
    ],
)
def test_help_of_a_task(project: Path, words: str) -> None:
    """Help is shown for the task that it is requested for, also where a required value is missing; nothing is run."""
    done = inv(project, *words.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert "./inv [--core-opts] start " in done.stdout
    assert "--host=STRING   a host's name" in done.stdout


def test_help_after_two_dashes_is_for_the_program(project: Path) -> None:
    """`./inv ssh --host zap -- ls --help` asks ls."""
    done = inv(project, "provision", "--", "ls", "--help")
    assert json.loads(done.stdout)["rest"] == ["ls", "--help"]


@pytest.mark.parametrize(
    ("words", "host"),
    [
        ("--host a --host b", "a,b"),
        ("--host=a --timeout 3 --host b,c", "a,b,c"),
        ("--timeout 3 --host=a --host=b", "a,b"),
        ("--host a", "a"),
        ("a", "a"),
    ],
)
def test_an_option_given_twice_names_several_hosts(project: Path, words: str, host: str) -> None:
    """`--host a --host b` is the same as `--host a,b`."""
    assert json.loads(inv(project, "start", *words.split()).stdout)["host"] == host


@pytest.mark.parametrize(
    ("words", "host"),
    [("--host --odd", "--odd"), ("--host=--odd", "--odd"), ("zap --echo", "zap"), ("--timeout 3 zap", "zap")],
)
def test_values_and_options_of_inv_are_no_unknown_options(project: Path, words: str, host: str) -> None:
    """What follows an option with a value is its value, and the options of ./inv itself may follow a task."""
    assert json.loads(inv(project, "start", *words.split()).stdout)["host"] == host


def test_hosts_of_two_tasks_stay_apart(project: Path) -> None:
    """Each task keeps its own --host."""
    done = inv(project, "start", "--host", "a", "provision", "--host", "b", "--host", "c")
    assert [json.loads(line)["host"] for line in done.stdout.splitlines()] == ["a", "b,c"]
