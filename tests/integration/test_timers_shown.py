"""`inv timers.install` and `timers.remove` show the changes before they make them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from swarm.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Dirs


@pytest.mark.parametrize("verb", ["install", "remove"])
def test_the_changes_are_shown_first(
    verb: str, dirs: Dirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where no user manager runs, and the command fails, the changes were shown before."""
    (dirs.hosts / "demo.yaml").write_text((ROOT / "hosts/demo.yaml").read_text(encoding="utf-8"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PATH", str(tmp_path))  # without systemctl and loginctl
    units = tmp_path / "config/systemd/user"
    units.mkdir(parents=True)
    shown = "write"
    if verb == "remove":
        shown = "delete"
        (units / "openclaw-backup@.timer").touch()
    done = subprocess.run(
        [sys.executable, "-P", str(ROOT / "swarm" / "__main__.py"), f"timers.{verb}", "--host", "demo"],
        env=os.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert 0 <= done.stderr.find(f"{shown} {units}/openclaw-backup@.timer") < done.stderr.index("error:")
