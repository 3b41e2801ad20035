"""Run programs of this computer with a time limit; find and end processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["LabError", "arguments", "children", "end", "missing", "run", "tail", "users"]

_PROGRAMS = ("systemd-nspawn", "mmdebstrap", "ip", "nsenter", "socat", "pasta", "ssh-keygen")
_LIMIT = 900.0  # seconds for one program; the longest installs packages in a machine beside other work
_ENDED = 60.0  # seconds for the kernel to end a killed process, and everything in a PID namespace with it


class LabError(Exception):
    """A machine, or a program that it needs, failed. The message holds the last lines of its output."""


def missing() -> list[str]:
    """Return what this computer does not have but needs for such machines."""
    return [name for name in _PROGRAMS if not shutil.which(name)] + ([] if os.geteuid() == 0 else ["root"])


def run(*command: str | Path, check: bool = True, limit: float = _LIMIT) -> str:
    """Run a program and return its standard output.

    Raise LabError if it takes more than `limit` seconds, and, with `check`, if its exit code is not 0.
    """
    argv = [str(word) for word in command]
    try:
        done = subprocess.run(
            argv,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=limit,
        )
    except subprocess.TimeoutExpired as late:
        output = (late.stdout or b"") + (late.stderr or b"")
        raise LabError(
            f"{' '.join(argv)} timed out after {limit:.0f} s: {tail(output.decode('utf-8', 'replace'))}"
        ) from None
    if check and done.returncode:
        raise LabError(
            f"{' '.join(argv)} failed with exit code {done.returncode}: {tail(done.stderr or done.stdout)}"
        )
    return done.stdout


def tail(text: str, lines: int = 20) -> str:
    """Return the last lines of an output, bounded, for an error message."""
    return "\n".join(text.strip().splitlines()[-lines:])[-4000:]


def children(pid: int) -> list[int]:
    """Return the IDs of the child processes of a process, whichever thread has started them; none if it has ended."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, path.read_text().split())
    return found


def users(matches: Callable[[str], bool]) -> list[int]:
    """Return the IDs of the processes, other than this one, that have an argument which `matches`."""
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*") if path.name != str(os.getpid())]
    return [pid for pid in pids if any(map(matches, arguments(pid)))]


def arguments(pid: int) -> list[str]:
    """Return the command line of a process; nothing if it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")[:-1]
    return []


def end(pids: Iterable[int]) -> None:
    """Kill processes that are not our children, and wait until they have ended. Raise LabError if one does not end."""
    left = list(pids)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = Deadline(_ENDED)
    while left := [pid for pid in left if _alive(pid)]:
        if not deadline.pause(0.05):
            raise LabError(f"processes {left} did not end within {_ENDED:.0f} s after SIGKILL")


def _alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False
