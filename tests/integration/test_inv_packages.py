"""The system packages that ./inv installs, with doubles for the programs that would change the system."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from tests.clone import Clone

# Doubles of programs that change the system. apt-get records its arguments; every package is missing and available.
DOUBLES = {
    "dpkg-query": "exit 1",
    "apt-cache": 'shift; for name; do printf "%s:\\n  Candidate: 1\\n" "$name"; done',
    "apt-get": 'echo "$DEBIAN_FRONTEND $*" >>"$CALLS"; echo output of apt-get; [ ! -e "$CALLS.fail" ] || exit 100',
    "id": "echo 0",
}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder in which pip finds wheels."""
    return tmp_path_factory.mktemp("wheels")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Clone:
    """Give a clone that is set up, to make copies of."""
    made = Clone.make(tmp_path_factory.mktemp("clone") / "clone", wheels)
    assert made.run().returncode == 0
    return made


@pytest.fixture
def doubles(tmp_path: Path) -> dict[str, str]:
    """Give the environment in which apt-get is a double that writes its arguments to the file $CALLS."""
    folder = tmp_path / "doubles"
    folder.mkdir()
    for name, script in DOUBLES.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls")}


@pytest.mark.slow
def test_without_apt_the_packages_are_only_named(
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
    """Packages are downloaded, then installed, without questions or removals; later runs do not check them again."""
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
    """If apt-get fails, the end of its output is shown, the task does not start, and the next run tries again."""
    own = clone.copy(tmp_path / "clone")
    Path(doubles["CALLS"] + ".fail").touch()
    done = own.run(more=doubles | {"SWARM_NO_APT": "0"})
    assert (done.returncode, done.stdout) == (1, "")
    assert "    output of apt-get\n" in done.stderr
    Path(doubles["CALLS"] + ".fail").unlink()
    assert own.run(more=doubles | {"SWARM_NO_APT": "0"}).returncode == 0


def test_another_system_gets_a_list_of_packages(tmp_path: Path, wheels: Path) -> None:
    """Without apt-get, the packages are listed by purpose, and nothing is created."""
    own, tools = Clone.make(tmp_path / "clone", wheels), tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "sed", "tr", "mkdir", "flock", "date", "tail", "id"):
        (tools / name).symlink_to(shutil.which(name) or name)
    done = own.run(more={"SWARM_NO_APT": "0", "PATH": str(tools)})
    assert done.returncode == 1
    assert "error: this system has no apt-get" in done.stderr
    assert "building disk images:                        mmdebstrap " in done.stderr
    assert not (own.root / ".venv").exists()
