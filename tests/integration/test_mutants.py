"""tools/mutants.py: tells which changes of a module its tests notice."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from swarm.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

MODULE = '''"""Numbers."""

LEAST = 10


def size(number: int) -> str:
    """Return a docstring's mutant: there is none."""
    if number < LEAST:
        return "small"
    return "large"


def halve(number: int) -> int:
    while number > 1:
        number -= 2
    return number


def unused() -> int:
    return 1
'''
TESTS = '''"""Tests of numbers."""

from numbers_of_swarm import halve, size


def test_size() -> None:
    assert [size(number) for number in (9, 20)] == ["small", "large"]


def test_halve() -> None:
    assert [halve(number) for number in (2, 3)] == [0, 1]
'''
SURVIVORS = {
    "numbers_of_swarm.py:3: 10 → 11  (no test fails)",
    "numbers_of_swarm.py:8: number < LEAST → number <= LEAST  (no test fails)",
    "numbers_of_swarm.py:20: return 1 → return None  (no test executes it)",
    "numbers_of_swarm.py:20: 1 → 2  (no test executes it)",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Give a project whose tests overlook the limit itself and never call one function."""
    (tmp_path / "numbers_of_swarm.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "test_numbers.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text("[tool.pytest]\npythonpath = ['.']\n", encoding="utf-8")
    return tmp_path


def report(project: Path, *words: str, code: int = 0) -> list[str]:
    """Run the program in the project, check its exit code and return the lines of its report."""
    argv = [
        sys.executable,
        "-m",
        "tools.mutants",
        "numbers_of_swarm.py",
        "--tests",
        "test_numbers.py",
        *words,
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        argv, cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_survivors_are_named(project: Path) -> None:
    """Exactly the unnoticed changes are listed; a mutant that never ends counts as killed; the file is as before."""
    lines = report(project, "--sample", "100")
    assert {line for line in lines if line.endswith(")") and "→" in line} == SURVIVORS
    assert lines[-1].endswith("11 of 15 killed (73 %)")
    assert (project / "numbers_of_swarm.py").read_text(encoding="utf-8") == MODULE


def test_a_sample_is_the_same_each_time(project: Path) -> None:
    """A seed chooses the same mutants again, and too low a share ends with exit code 1."""
    words = ("--sample", "3", "--seed", "7", "--fail-under", "100.5")
    first, second = (sorted(report(project, *words, code=1)[1:-1]) for _ in range(2))
    assert first == second


def test_tests_that_fail_anyway_are_refused(project: Path) -> None:
    """Without green tests there is nothing to measure."""
    (project / "test_numbers.py").write_text("def test_wrong():\n    assert False\n", encoding="utf-8")
    report(project, code=1)


def test_a_run_without_a_test_is_no_kill(project: Path) -> None:
    """A mutant whose only test has got another name survives; one that breaks conftest.py's import is killed."""
    module = "SIZE = 10\nassert int('7') == 7\n\n\ndef size() -> int:\n    return SIZE\n"
    tests = "import numbers_of_swarm as made, pytest\n\n\n@pytest.mark.parametrize('size', [made.SIZE])\n"
    (project / "numbers_of_swarm.py").write_text(module, encoding="utf-8")
    (project / "conftest.py").write_text("import numbers_of_swarm\n", encoding="utf-8")
    (project / "test_numbers.py").write_text(
        f"{tests}def test_size(size: int) -> None:\n    assert made.size() == size\n", encoding="utf-8"
    )
    lines = report(project, "--sample", "100")
    assert lines[1:-2] == ["numbers_of_swarm.py:1: 10 → 11  (none of its tests is found)"]
    assert lines[-1].endswith("4 of 5 killed (80 %)")
