"""./inv, the bootstrapper: what its first run does, what interrupts it, and what later runs leave alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clone import Clone

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Story:
    """A first run that was killed, and two runs after it at once."""

    clone: Clone
    believed: bool
    second: tuple[int, str, str]
    third: tuple[int, str, str]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder in which pip finds wheels."""
    return tmp_path_factory.mktemp("wheels")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Story:
    """Set up a clone under adverse conditions: the first run is killed, then two start at once."""
    clone = Clone.make(tmp_path_factory.mktemp("with a space") / "my clone", wheels)
    first = clone.start()
    clone.wait_for("# installing the Python packages", first)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    (clone.root / ".setup" / "log").unlink()
    believed = (clone.root / ".venv" / ".setup").exists()
    foreign = tmp_path_factory.mktemp("foreign")
    (foreign / "venv.py").write_text("raise SystemExit('the wrong venv')", encoding="utf-8")
    misleading = {"PYTHONPATH": str(foreign), "PIP_USER": "1"}
    misleading |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONOPTIMIZE": "2"}
    second = clone.start("second", more=misleading)
    clone.wait_for("# making a Python environment", second)
    third = clone.start("third")
    output = [(process.communicate(), process.returncode) for process in (second, third)]
    return Story(clone, believed, *((code, *texts) for texts, code in output))


@pytest.fixture(scope="module")
def clone(story: Story) -> Clone:
    """Give a clone that is set up, for tests that change nothing in it."""
    return story.clone


@pytest.mark.slow
def test_a_killed_run_is_repeated(story: Story) -> None:
    """An environment that kill -9 left incomplete is not used; the next run makes a new one."""
    code, stdout, stderr = story.second
    assert not story.believed
    assert (code, json.loads(stdout)["words"]) == (0, ["second"])
    assert "✓ making a Python environment" in stderr


def test_two_runs_at_once_make_one_environment(story: Story) -> None:
    """The second run reports that it waits, makes nothing itself, and then runs its task."""
    code, stdout, stderr = story.third
    assert (code, json.loads(stdout)["words"]) == (0, ["third"])
    assert stderr == "another ./inv is setting swarm up; waiting for it\n"


def test_the_task_inherits_neither_the_lock_nor_the_ban_on_bytecode(story: Story) -> None:
    """A program that a task starts can't block the next setup, and Python may keep compiled modules."""
    seen = json.loads(story.second[1])
    assert seen["bytecode"]
    assert "9" not in seen["files"]


def test_settings_for_another_python_have_no_effect(story: Story) -> None:
    """PYTHONPATH, PIP_USER and PYTHONOPTIMIZE, which drops help texts, steer neither the setup nor the task."""
    code, stdout, _ = story.second
    seen = json.loads(stdout)
    assert (code, seen["optimize"]) == (0, 0)
    assert not [folder for folder in seen["path"] if "foreign" in folder]


def test_a_later_run_is_silent(clone: Clone) -> None:
    """After the setup, ./inv writes nothing of its own."""
    done = clone.run("a task")
    assert (done.returncode, done.stderr) == (0, "")


def test_words_and_folder_of_the_caller_arrive_unchanged(clone: Clone, tmp_path: Path) -> None:
    """Blanks, quotes, empty arguments and a lone -- reach Python unchanged, in the caller's folder."""
    words = ["--list", "", "a  b", "c'd\"e", "--", "$HOME", "*"]
    seen = json.loads(clone.run(*words, cwd=tmp_path).stdout)
    assert (seen["words"], seen["folder"]) == (words, str(tmp_path))


def test_it_can_be_called_through_symbolic_links(clone: Clone, tmp_path: Path) -> None:
    """A link to ./inv, and a linked folder on the way to it, lead to the same environment without a new setup."""
    (tmp_path / "link to inv").symlink_to(clone.root / "inv")
    (tmp_path / "folder").symlink_to(clone.root)
    for program in (tmp_path / "link to inv", tmp_path / "folder" / "inv"):
        done = clone.run(program=program, cwd=tmp_path)
        assert (json.loads(done.stdout)["prefix"], done.stderr) == (str(clone.root / ".venv"), "")


def test_it_can_be_read_by_a_shell(clone: Clone) -> None:
    """`sh inv` works, also when another inv stands in PATH."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "inv"],
        cwd=clone.root,
        env=clone.environment({"PATH": path}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["prefix"] == str(clone.root / ".venv")


def test_a_changed_lock_file_is_installed(clone: Clone, tmp_path: Path) -> None:
    """After the lock file has changed, the next run installs what it names, and the one after that nothing."""
    own = clone.copy(tmp_path / "clone")
    own.lock("2.0")
    first, second = own.run(), own.run()
    assert json.loads(first.stdout)["tiny"] == "2.0"
    assert "✓ installing the Python packages" in first.stderr
    assert "making a Python environment" not in first.stderr
    assert second.stderr == ""


def test_a_lock_file_that_was_only_touched_installs_nothing(clone: Clone, tmp_path: Path) -> None:
    """A time stamp alone, as after changing branches, does not start pip."""
    own = clone.copy(tmp_path / "clone")
    os.utime(own.root / "requirements.lock")
    assert (own.run().stderr, own.run().stderr) == ("", "")


@pytest.mark.slow
def test_a_wrong_hash_stops_the_setup(clone: Clone, tmp_path: Path) -> None:
    """A package that differs from the locked one is rejected with the output of pip and a hint, and no task starts."""
    own = clone.copy(tmp_path / "clone")
    own.lock("3.0")
    (own.wheels / "tiny-3.0-py3-none-any.whl").write_bytes(
        (own.wheels / "tiny-1.0-py3-none-any.whl").read_bytes()
    )
    done = own.run()
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: installing the Python packages failed" in done.stderr
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stderr
    assert "hint: " in done.stderr
    assert not (own.root / ".venv" / ".setup").exists()


def test_a_package_without_hash_is_refused(clone: Clone, tmp_path: Path) -> None:
    """A lock file that names a version and no hash is not enough."""
    own = clone.copy(tmp_path / "clone")
    own.lock("2.0")
    (own.root / "requirements.lock").write_text("tiny==2.0\n", encoding="utf-8")
    done = own.run()
    assert (done.returncode, done.stdout) == (1, "")
    assert "Hashes are required in --require-hashes mode" in done.stderr


def test_a_moved_folder_is_set_up_again(clone: Clone, tmp_path: Path, wheels: Path) -> None:
    """An environment made elsewhere, whose programs name the old folder, is not used."""
    shutil.copytree(clone.root, tmp_path / "moved", symlinks=True)
    (tmp_path / "moved" / ".setup" / "log").unlink()
    moved = Clone(tmp_path / "moved", wheels)
    process = moved.start()
    moved.wait_for("# making a Python environment", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_ctrl_c_stops_the_setup(tmp_path: Path, wheels: Path) -> None:
    """Ctrl-C ends the setup and what it has started, with code 130 and one sentence."""
    own = Clone.make(tmp_path / "clone", wheels)
    process = own.start()
    own.wait_for("# making a Python environment", process)
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (130, "")
    assert stderr.endswith("interrupted; run the same command again to continue\n")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_an_old_python_is_refused(tmp_path: Path, wheels: Path) -> None:
    """A Python before 3.11 is named with its version, and a way out is shown."""
    own, old = Clone.make(tmp_path / "clone", wheels), tmp_path / "python3"
    pretend = (
        "import platform, sys; sys.version_info = (3, 10, 9); platform.python_version = lambda: '3.10.9'"
    )
    old.write_text(f'#!/bin/sh\nexec /usr/bin/python3 -c "{pretend}\n$2"\n', encoding="utf-8")
    old.chmod(0o755)
    done = own.run(more={"SWARM_PYTHON": str(old)})
    assert done.returncode == 1
    assert (
        f"error: swarm needs Python 3.11 or newer, and {old} is 3.10.9\n  hint: SWARM_PYTHON=" in done.stderr
    )


def test_the_environment_of_another_clone_stays(tmp_path: Path, wheels: Path) -> None:
    """A .venv that is a link to another clone's is replaced by an own one, and the other clone's is not emptied."""
    own, other = Clone.make(tmp_path / "clone", wheels), tmp_path / "other"
    other.mkdir()
    (other / ".setup").write_text("/another/clone\nhand\n", encoding="utf-8")
    (own.root / ".venv").symlink_to(other)
    done = own.run()
    assert done.returncode == 0, done.stderr
    assert (other / ".setup").read_text(encoding="utf-8") == "/another/clone\nhand\n"
    assert not (own.root / ".venv").is_symlink()
