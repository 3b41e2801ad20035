"""./inv, the bootstrapper: what its first run does, what cuts it short, and what later runs leave alone.

The clone of these tests is real but small: its lock file names one tiny wheel, and what ./inv starts says how it was called.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]

# Stands where swarm/__main__.py is: says what it was given.
PROBE = """
import importlib.metadata, json, os, sys
print(json.dumps({"words": sys.argv[1:], "folder": os.getcwd(), "prefix": sys.prefix, "tiny": importlib.metadata.version("tiny"),
                  "bytecode": not sys.dont_write_bytecode, "files": sorted(os.listdir("/proc/self/fd"))}))
"""

# A double for a program that changes the system: writes down its arguments. dpkg-query knows no package, apt-cache all.
DOUBLES = {
    "dpkg-query": "exit 1",
    "apt-cache": 'shift; for name; do printf "%s:\\n  Candidate: 1\\n" "$name"; done',
    "apt-get": 'echo "$DEBIAN_FRONTEND $*" >>"$CALLS"; echo output of apt-get; [ ! -e "$CALLS.fail" ] || exit 100',
    "id": "echo 0",
}


def make_wheel(folder: Path, version: str) -> str:
    """Write the wheel of a package called tiny, with nothing in it, and return the line that locks it."""
    path, info = folder / f"tiny-{version}-py3-none-any.whl", f"tiny-{version}.dist-info"
    files = {
        "tiny.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(text)}\n"
            wheel.writestr(name, text)
        wheel.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return f"tiny=={version} \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@dataclass(frozen=True)
class Clone:
    """A small clone, and the wheels that its lock file can name."""

    root: Path
    wheels: Path

    @classmethod
    def make(cls, folder: Path, wheels: Path) -> Clone:
        """Make a fresh clone in `folder`, with the lock file naming version 1.0."""
        (folder / "swarm").mkdir(parents=True)
        shutil.copy2(ROOT / "inv", folder)
        (folder / "swarm" / "__main__.py").write_text(PROBE, encoding="utf-8")
        clone = cls(folder, wheels)
        clone.lock("1.0")
        return clone

    def lock(self, version: str) -> None:
        """Let the lock file name this version."""
        (self.root / "requirements.lock").write_text(make_wheel(self.wheels, version), encoding="utf-8")

    def copy(self, folder: Path) -> Clone:
        """Make a copy that ./inv takes for one set up where it is, which is quicker than setting another one up."""
        shutil.copytree(self.root, folder, symlinks=True)
        state = folder / ".venv" / ".setup"
        state.write_text(
            state.read_text(encoding="utf-8").replace(str(self.root), str(folder.resolve())), encoding="utf-8"
        )
        return Clone(folder, self.wheels)

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return an environment in which pip finds the wheels here, and no network."""
        given = {key: value for key, value in os.environ.items() if not key.startswith(("SWARM_", "PIP_"))}
        return {
            **given,
            "SWARM_NO_APT": "1",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_CONFIG_FILE": os.devnull,
            **(more or {}),
        }

    def start(self, *words: str, more: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start ./inv in a session of its own."""
        argv = [str(self.root / "inv"), *words]
        environment, pipe = self.environment(more), subprocess.PIPE
        return subprocess.Popen(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            text=True,
            start_new_session=True,
        )

    def run(
        self,
        *words: str,
        more: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        program: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run ./inv, or the link to it called `program`."""
        argv = [str(program or self.root / "inv"), *words]
        return subprocess.run(
            argv,
            cwd=cwd,
            env=self.environment(more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def wait_for(self, text: str, process: subprocess.Popen[str]) -> None:
        """Wait until the log of a setup that is running holds a text."""
        log = self.root / ".setup" / "log"
        while not (log.is_file() and text in log.read_text(encoding="utf-8")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)


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
    """Set a clone up the hard way: the first run is killed without warning, then two start at once."""
    clone = Clone.make(tmp_path_factory.mktemp("with a space") / "my clone", wheels)
    first = clone.start()
    clone.wait_for("# installing the Python packages", first)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    (clone.root / ".setup" / "log").unlink()
    believed = (clone.root / ".venv" / ".setup").exists()
    second = clone.start("second", more={"PYTHONDONTWRITEBYTECODE": "1"})
    clone.wait_for("# making a Python environment", second)
    third = clone.start("third")
    output = [(process.communicate(), process.returncode) for process in (second, third)]
    return Story(clone, believed, *((code, *texts) for texts, code in output))


@pytest.fixture(scope="module")
def clone(story: Story) -> Clone:
    """Give a clone that is set up, for tests that change nothing in it."""
    return story.clone


@pytest.fixture
def doubles(tmp_path: Path) -> dict[str, str]:
    """Give the environment in which apt-get is a double that writes its arguments to the file $CALLS."""
    folder = tmp_path / "doubles"
    folder.mkdir()
    for name, script in DOUBLES.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls")}


def test_a_run_that_was_killed_is_begun_again(story: Story) -> None:
    """What kill -9 leaves is not taken for a whole environment; the next run makes one."""
    code, stdout, stderr = story.second
    assert not story.believed
    assert (code, json.loads(stdout)["words"]) == (0, ["second"])
    assert "✓ making a Python environment" in stderr


def test_two_runs_at_once_make_one_environment(story: Story) -> None:
    """The run that comes second waits, says so, makes nothing itself, and then does what it was called for."""
    code, stdout, stderr = story.third
    assert (code, json.loads(stdout)["words"]) == (0, ["third"])
    assert stderr == "another ./inv is setting swarm up; waiting for it\n"


def test_the_task_inherits_neither_the_lock_nor_the_ban_on_bytecode(story: Story) -> None:
    """Whatever a task starts cannot hold up the next setup, and Python may keep compiled modules."""
    seen = json.loads(story.second[1])
    assert seen["bytecode"]
    assert "9" not in seen["files"]


def test_a_later_run_says_nothing(clone: Clone) -> None:
    """Once set up, ./inv adds not one line of its own."""
    done = clone.run("a task")
    assert (done.returncode, done.stderr) == (0, "")


def test_words_and_folder_of_the_caller_arrive_unchanged(clone: Clone, tmp_path: Path) -> None:
    """Blanks, quotes, empty words and a lone -- reach Python as they were typed, in the folder in which they were typed."""
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


def test_a_wrong_hash_stops_the_setup(clone: Clone, tmp_path: Path) -> None:
    """A package that is not the one that was locked is refused, with pip's words and a hint, and nothing is started."""
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


def test_a_moved_folder_is_set_up_anew(clone: Clone, tmp_path: Path, wheels: Path) -> None:
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
    assert stderr.endswith("interrupted; run the same command again to go on\n")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_by_hand_the_packages_are_named_and_left_alone(
    clone: Clone, tmp_path: Path, doubles: dict[str, str]
) -> None:
    """With SWARM_NO_APT=1, the command is printed, with what each package is for, and the task runs."""
    own = clone.copy(tmp_path / "clone")
    later = time.time() + 60
    os.utime(
        own.root / "inv", (later, later)
    )  # a newer ./inv may name more packages, so they are looked at again
    done = own.run("task", more=doubles)
    assert json.loads(done.stdout)["words"] == ["task"]
    assert "to install them: apt-get install --no-install-recommends python3 " in done.stderr
    assert "virtual machines, their firmware and TPM:    qemu-system-x86 " in done.stderr
    assert not Path(doubles["CALLS"]).exists()


def test_missing_packages_are_installed_once(clone: Clone, tmp_path: Path, doubles: dict[str, str]) -> None:
    """The packages are downloaded, then installed, without questions and without removing others; then never looked at again."""
    own = clone.copy(tmp_path / "clone")
    first, second = (
        own.run(more=doubles | {"SWARM_NO_APT": "0"}),
        own.run(more=doubles | {"SWARM_NO_APT": "0"}),
    )
    calls = [
        line
        for line in Path(doubles["CALLS"]).read_text(encoding="utf-8").splitlines()
        if " update" not in line
    ]
    assert first.returncode == 0, first.stderr
    assert "✓ downloading packages" in first.stderr
    assert ["--download-only" in call for call in calls] == [True, False]
    assert all(call.startswith("noninteractive -y --no-install-recommends --no-remove ") for call in calls)
    assert all(" qemu-system-x86 " in call and "?" not in call for call in calls)
    assert second.stderr == ""


def test_a_failing_apt_get_is_quoted(clone: Clone, tmp_path: Path, doubles: dict[str, str]) -> None:
    """If apt-get fails, its last words are shown, the task does not start, and the next run tries again."""
    own = clone.copy(tmp_path / "clone")
    Path(doubles["CALLS"] + ".fail").touch()
    done = own.run(more=doubles | {"SWARM_NO_APT": "0"})
    assert (done.returncode, done.stdout) == (1, "")
    assert "    output of apt-get\n" in done.stderr
    Path(doubles["CALLS"] + ".fail").unlink()
    assert own.run(more=doubles | {"SWARM_NO_APT": "0"}).returncode == 0


def test_another_system_is_told_what_is_needed(tmp_path: Path, wheels: Path) -> None:
    """Without apt-get, the packages are named by their use, and nothing is made."""
    own, tools = Clone.make(tmp_path / "clone", wheels), tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "sed", "tr", "mkdir", "flock", "date", "tail", "id"):
        (tools / name).symlink_to(shutil.which(name) or name)
    done = own.run(more={"SWARM_NO_APT": "0", "PATH": str(tools)})
    assert done.returncode == 1
    assert "error: this system has no apt-get" in done.stderr
    assert "building disk images:                        mmdebstrap " in done.stderr
    assert not (own.root / ".venv").exists()


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


@pytest.mark.slow
def test_the_real_project_sets_itself_up(tmp_path: Path) -> None:
    """A clone of this project, with its real lock file, lists its tasks as the first command typed."""
    subprocess.run(["git", "clone", "-q", str(ROOT), "a clone"], cwd=tmp_path, check=True)
    given = {key: value for key, value in os.environ.items() if not key.startswith("SWARM_")}
    argv = [str(tmp_path / "a clone" / "inv"), "--list"]
    done = subprocess.run(
        argv, env=given | {"SWARM_NO_APT": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "provision" in done.stdout
