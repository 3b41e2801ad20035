"""The tests with a real VM run in the order of what they need, whatever their files are called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FILES = ("build", "rungs", "interrupted", "provision", "drift", "drill")


def collected(*names: str) -> list[str]:
    """Return the files of the tests that pytest would run, in order, each named once."""
    paths = [f"tests/vm/test_{name}.py" for name in names]
    argv = [sys.executable, "-P", "-m", "pytest", "--collect-only", "-q", "-p", "no:xdist", *paths]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    tests = [line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line]
    return [Path(path).stem.removeprefix("test_") for path in dict.fromkeys(tests)]


def test_tests_of_the_running_vm_come_before_those_that_save_it() -> None:
    """The VM is used first, then copied, then stopped; files keep their given order among their like."""
    assert collected(*FILES) == ["provision", "drill", "rungs", "drift", "interrupted", "build"]
