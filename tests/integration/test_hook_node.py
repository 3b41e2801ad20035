"""The tests of the agentmon hook, which Node's own test runner runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools.node import node

_TESTS = Path(__file__).parents[1] / "hook"
_LIMIT = 180.0  # seconds for one file


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.name for path in _TESTS.glob("*.test.ts")))
def test_hook(name: str) -> None:
    """The tests in a file of tests/hook pass under the Node that OpenClaw requires."""
    done = subprocess.run(
        [node(), "--test", "--test-reporter=spec", "--test-timeout=60000", _TESTS / name],
        capture_output=True,
        text=True,
        check=False,
        timeout=_LIMIT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass 0" not in done.stdout, done.stdout
