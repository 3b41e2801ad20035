"""The user's own commands around a backup, when they do not end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from swarm.backup import monitor
from swarm.backup.monitor import Monitor
from swarm.console import Talk, screen
from swarm.errors import CommandFailed
from swarm.inventory.backup import BackupSettings
from swarm.paths import ROOT

_WITHIN = 30.0  # seconds
_CHILD = """
import sys
from swarm.backup.monitor import Monitor
from swarm.console import Talk, screen
from swarm.inventory.backup import BackupSettings
Monitor("zap", BackupSettings(before=tuple(sys.argv[1:])), Talk(screen(), quiet=True)).start()
"""


def endless(folder: Path) -> str:
    """Return a command that waits for two processes of its own: one ends when it is told to, the other does not."""
    stubborn = f"trap '' TERM; echo $$ >{folder}/stubborn; while :; do sleep 0.1; done"
    return f'sleep 600 & echo $! >{folder}/sleep; sh -c "{stubborn.replace("$", chr(92) + "$")}" & wait'


def started(folder: Path) -> list[int]:
    """Return the numbers of the command's processes, once they run."""
    limit = time.monotonic() + _WITHIN
    files = [folder / name for name in ("sleep", "stubborn")]
    while not all(path.exists() and path.read_text(encoding="utf-8").strip() for path in files):
        assert time.monotonic() < limit
        time.sleep(0.05)
    return [int(path.read_text(encoding="utf-8")) for path in files]


def left(pids: list[int], patience: float = _WITHIN) -> list[int]:
    """Return which processes still run, after ending them. A killed one may need a moment on a busy computer."""
    limit = time.monotonic() + patience
    while (found := list(filter(runs, pids))) and time.monotonic() < limit:
        time.sleep(0.05)
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    return found


def runs(pid: int) -> bool:
    """Whether a process runs. One that nobody has collected does not."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_command_ends_with_all_that_it_has_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a command's time limit the processes that it has started end too, also those that ignore SIGTERM."""
    monkeypatch.setattr(monitor, "_COMMAND", 2)
    monkeypatch.setattr(monitor, "_GRACE", 0.5)
    settings = BackupSettings(before=(endless(tmp_path),))
    with pytest.raises(CommandFailed, match=r"backup\.before, command 1 timed out after 2 s"):
        Monitor("zap", settings, Talk(screen(), quiet=True)).start()
    assert left(started(tmp_path)) == []


@pytest.mark.slow
def test_ctrl_c_ends_a_command_with_all_that_it_has_started(tmp_path: Path) -> None:
    """After Ctrl-C nothing of a command runs on beside the next backup."""
    words = [sys.executable, "-P", "-c", _CHILD, endless(tmp_path)]
    with subprocess.Popen(
        words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
    ) as child:
        pids = started(tmp_path)
        child.send_signal(signal.SIGINT)
        child.wait(_WITHIN)
    assert left(pids) == []


def test_what_a_command_leaves_in_the_background_goes_on(tmp_path: Path) -> None:
    """A tunnel that a command of `before` opens is still there for the backup."""
    settings = BackupSettings(before=(f"sleep 600 & echo $! >{tmp_path}/pid",))
    Monitor("zap", settings, Talk(screen(), quiet=True)).start()
    pid = int((tmp_path / "pid").read_text(encoding="utf-8"))
    assert left([pid], patience=0) == [pid]
