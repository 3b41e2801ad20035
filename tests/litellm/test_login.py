"""The login to GitHub Copilot, by LiteLLM's own code."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from swarm.litellm.running import LOGIN
from tools.litellm.github import CODE, TOKEN, GitHub
from tools.litellm.parts import parts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def github() -> Iterator[GitHub]:
    """Give a GitHub."""
    made = GitHub()
    yield made
    made.close()


def login(github: GitHub, folder: Path) -> subprocess.CompletedProcess[str]:
    """Log in by LiteLLM's Python."""
    variables = {**os.environ, **github.variables, "GITHUB_COPILOT_TOKEN_DIR": str(folder)}
    command = [str(parts().venv / "bin/python"), "-c", LOGIN]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def test_login(github: GitHub, tmp_path: Path) -> None:
    """The code is shown, the token is kept for its owner alone, and the second login asks nothing."""
    folder = tmp_path / "copilot"
    done = login(github, folder)
    assert done.returncode == 0, done.stderr
    assert f"enter code {CODE}" in done.stdout
    assert TOKEN not in done.stdout + done.stderr
    assert (folder / "access-token").read_text(encoding="utf-8") == TOKEN
    assert (folder / "access-token").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert "nothing to do" in login(github, folder).stdout
    assert github.logins == 1


def test_failed_login(github: GitHub, tmp_path: Path) -> None:
    """A GitHub that does not answer makes one sentence, and no file."""
    github.refuse = True
    done = login(github, tmp_path)
    assert done.returncode == 1
    assert "error: the login to GitHub Copilot failed: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "access-token").exists()
