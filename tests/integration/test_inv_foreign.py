"""`inv` of another Python: any Invoke from 2.0 on, loaded in a clone, hands over to ./inv with the same words."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm.locks import hold

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
_CACHE = Path("/var/cache/swarm-tests") if os.geteuid() == 0 else Path.home() / ".cache" / "swarm-tests"

# Stands in for ./inv: reports how it was called, and ends with the code that a task's name states.
RECORDER = r"""#!/bin/sh
printf '%s\n' "$PWD" "$0" "$@" >"${0%/*}/called"
case ${1:-} in fail) exit 7 ;; signal) kill -PIPE $$ ;; esac
"""


def foreign(requirement: str) -> Path:
    """Return the program inv of a virtual environment that holds this Invoke and nothing else. It is made once."""
    place = _CACHE / requirement.replace("==", "-")
    _CACHE.mkdir(parents=True, exist_ok=True)
    with hold(place.with_name(f"{place.name}.lock")):
        if not (place / "bin" / "inv").exists():
            shutil.rmtree(place, ignore_errors=True)
            venv.create(place, with_pip=True)
            pip = [str(place / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
            done = subprocess.run(
                [*pip, requirement], capture_output=True, text=True, check=False, timeout=300
            )
            if done.returncode:
                shutil.rmtree(place)
                pytest.skip(f"{requirement} can't be downloaded: {done.stderr.strip()[-200:]}")
    return place / "bin" / "inv"


@pytest.fixture(scope="module", params=["invoke==2.0.0", "invoke"])
def inv(request: pytest.FixtureRequest) -> Path:
    """Give the program inv of the oldest and of the newest Invoke."""
    return foreign(request.param)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Give a copy of this project whose ./inv records how it is called."""
    folder = tmp_path / "a clone"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "swarm", folder / "swarm", ignore=ignore)
    shutil.copytree(ROOT / "hosts", folder / "hosts", ignore=ignore)
    shutil.copy2(ROOT / "tasks.py", folder)
    (folder / "inv").write_text(RECORDER, encoding="utf-8")
    (folder / "inv").chmod(0o755)
    return folder


def run(
    inv: Path, *words: str, cwd: Path, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a foreign inv."""
    return subprocess.run(
        [str(inv), *words],
        cwd=cwd,
        env={**os.environ, **(more or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def called(clone: Path) -> list[str]:
    """Return the folder in which ./inv was called, its own name, and its words."""
    return (clone / "called").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--list"],
        ["-l"],
        ["--help", "provision"],
        ["provision", "--help"],
        ["provision", "--host", "zap"],
        ["provision", "--host=zap", "--plan", "status"],
        ["-e", "--no-dedupe", "status"],
        ["images.prune", "--yes"],
        ["help", "plan"],
        ["no-such-task", "--no-such-option"],
        ["ssh", "--host", "zap", "--", "echo", "a  b", "$HOME", "*", "--list"],
        ["--complete", "--", "inv", "prov"],
    ],
)
def test_every_command_line_arrives_as_it_was_typed(inv: Path, clone: Path, words: list[str]) -> None:
    """Tasks, options before and after them, words after -- and requests for completion reach ./inv unchanged."""
    done = run(inv, *words, cwd=clone)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert called(clone) == [str(clone), str(clone / "inv"), *words]


def test_the_exit_code_is_that_of_inv(inv: Path, clone: Path) -> None:
    """What ./inv ends with is what the caller sees, also when a signal ends it."""
    assert run(inv, "fail", cwd=clone).returncode == 7
    assert run(inv, "signal", cwd=clone).returncode == -13


def test_it_works_in_a_subfolder_and_keeps_it(inv: Path, clone: Path) -> None:
    """Invoke searches for tasks.py upward; ./inv runs in the folder of the caller."""
    run(inv, "status", cwd=clone / "hosts")
    assert called(clone) == [str(clone / "hosts"), str(clone / "inv"), "status"]


def test_an_inv_that_is_not_executable_works(inv: Path, clone: Path) -> None:
    """A clone from an archive or on a noexec mount has no executable ./inv."""
    (clone / "inv").chmod(0o644)
    assert run(inv, "fail", cwd=clone).returncode == 7


def test_python_with_invoke_as_a_module(inv: Path, clone: Path) -> None:
    """`python -m invoke` hands over too."""
    run(inv.with_name("python"), "-m", "invoke", "status", "--json", cwd=clone)
    assert called(clone)[2:] == ["status", "--json"]


def test_a_loop_ends_with_an_error(inv: Path, clone: Path) -> None:
    """Even an ./inv that starts the foreign Invoke again does not loop."""
    (clone / "inv").write_text(
        f'#!/bin/sh\necho once >>"${{0%/*}}/called"\nexec {inv} "$@"\n', encoding="utf-8"
    )
    done = run(inv, "status", cwd=clone)
    assert done.returncode == 1
    assert "hint: remove " in done.stderr
    assert called(clone) == ["once"]


def test_a_child_of_a_task_may_use_the_foreign_invoke(inv: Path, clone: Path) -> None:
    """The guard against loops does not forbid what ./inv starts to call another Invoke."""
    (clone / "child").mkdir()
    (clone / "child" / "tasks.py").write_text(
        (clone / "tasks.py").read_text(encoding="utf-8"), encoding="utf-8"
    )
    shutil.copytree(clone / "swarm", clone / "child" / "swarm")
    (clone / "child" / "inv").write_text(RECORDER, encoding="utf-8")
    (clone / "inv").write_text(f'#!/bin/sh\ncd "${{0%/*}}/child"\n{inv} status\n', encoding="utf-8")
    assert run(inv, "status", cwd=clone).returncode == 0
    assert called(clone / "child")[2:] == ["status"]


def test_the_same_environment_is_not_left(clone: Path) -> None:
    """Invoke in the clone's own .venv runs the tasks itself."""
    (clone / ".venv").symlink_to(Path(sys.prefix))
    done = run(clone / ".venv" / "bin" / "inv", "--list", cwd=clone)
    assert done.returncode == 0, done.stderr
    assert "images.prune" in done.stdout
    assert not (clone / "called").exists()


def test_other_programs_can_import_tasks(clone: Path) -> None:
    """An editor or a type checker that imports tasks.py is not replaced by ./inv."""
    done = run(Path(sys.executable), "-c", "import tasks; print(tasks.plan.name)", cwd=clone)
    assert done.stdout == "plan\n"
    assert not (clone / "called").exists()


def test_what_invoke_answers_without_tasks_still_works(inv: Path, clone: Path) -> None:
    """--version, a bare --help and the completion script come from Invoke itself, which does not load tasks.py."""
    for words in (["--version"], ["--help"], ["--print-completion-script", "bash"]):
        done = run(inv, *words, cwd=clone)
        assert (done.returncode, done.stderr, bool(done.stdout)) == (0, "", True)


@pytest.mark.skipif(not (ROOT / ".venv" / ".setup").is_file(), reason="this checkout is not set up")
def test_the_real_inv_answers(inv: Path) -> None:
    """In this checkout, the foreign inv shows the hosts, lists tasks and completes, as ./inv does."""
    assert isinstance(json.loads(run(inv, "hosts", "--json", cwd=ROOT / "swarm").stdout), list)
    assert "images.prune" in run(inv, "--list", cwd=ROOT).stdout
    assert "did you mean provision?" in run(inv, "provisoin", cwd=ROOT).stderr
    assert "--timeout" in run(inv, "--complete", "--", "inv provision --t", cwd=ROOT).stdout.split()


@pytest.mark.parametrize(
    "name", ["tasks.py", "swarm/__init__.py", "swarm/front/__init__.py", "swarm/front/handover.py"]
)
def test_an_old_python_can_read_what_hands_over(name: str) -> None:
    """Python 3.8 parses each file that it has to read before ./inv takes over."""
    ast.parse((ROOT / name).read_text(encoding="utf-8"), feature_version=(3, 8))
