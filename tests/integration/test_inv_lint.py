"""inv lint: each of its own checks finds what it is there for, and leaves in peace what is right."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from swarm.errors import UsageError
from swarm.paths import ROOT
from tools import quality

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = """
[project]
dependencies = ["rich>=15", "ruamel-yaml>=0.19"]
[dependency-groups]
dev = ["ruff>=0.17"]
"""
HASH = " \\\n    --hash=sha256:" + 64 * "0"
LOCK = f"rich==15.0.1{HASH}\n    # via swarm\nruamel-yaml==0.19{HASH}\nruff==0.17.2 ; sys_platform == 'linux'{HASH}\n"


def lock_problems(folder: Path, lock: str) -> list[str]:
    """Return what the check says of a lock file."""
    (folder / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    (folder / "requirements.lock").write_text(lock, encoding="utf-8")
    return list(quality._lock_problems(folder))  # noqa: SLF001 - its command prints, which says nothing to a test


@pytest.mark.parametrize(
    ("lock", "problem"),
    [
        (LOCK, None),
        (
            LOCK.replace("ruff==0.17.2", "rough==0.17.2"),
            "requirements.lock: ruff of pyproject.toml is not in it",
        ),
        (LOCK.replace("15.0.1", "14.9"), "requirements.lock: rich is 14.9, but pyproject.toml wants >=15"),
        (
            LOCK.replace(f"ruamel-yaml==0.19{HASH}", "ruamel-yaml==0.19"),
            "requirements.lock: ruamel-yaml==0.19 has no hash",
        ),
        (f"--index-url somewhere\n{LOCK}", "requirements.lock:1: an address or an option"),
        (LOCK + f"thing @ file:///tmp/thing.whl{HASH}\n", "requirements.lock:8: an address or an option"),
    ],
)
def test_the_lock_file_fits_the_project_and_holds_no_address(
    tmp_path: Path, lock: str, problem: str | None
) -> None:
    """A dependency that is missing, too old or without hash is named, and so is any address."""
    found = lock_problems(tmp_path, lock)
    assert [line.startswith(problem or "-") for line in found] == ([True] if problem else [])


def test_words_for_pytest_choose_what_is_run(tmp_path: Path) -> None:
    """`inv test -- FILE` runs that file alone, named from the caller's folder, and its outcome is the exit code."""
    text = '"""Two tests."""\n\ndef test_right():\n    pass\n\ndef test_wrong():\n    assert False\n'
    (tmp_path / "test_two.py").write_text(text, encoding="utf-8")
    for words, code in ((["test_two.py::test_right"], 0), (["test_two.py"], 1)):
        program = f"from tools import quality; quality.test(quick=True, words={['-q', *words]!r})"
        argv = [sys.executable, "-c", program]
        done = subprocess.run(
            argv,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout
        assert "1 passed" in done.stdout


def test_an_unknown_bench_is_named() -> None:
    """The name of a program that bench/ does not hold is refused with those that it holds."""
    with pytest.raises(UsageError, match=r"there is no bench/nothing\.py"):
        quality.bench("nothing")
