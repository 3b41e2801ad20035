"""One measured run of a program, whose output only matters if it fails."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["Timed", "timed"]

_LAST = 3000  # characters of the output that a failure shows


class Timed(NamedTuple):
    """What a run took: seconds by the clock, and of CPU on this side. `words` are its last ones."""

    code: int
    seconds: float
    cpu: float
    words: str


def timed(command: Sequence[str], variables: Mapping[str, str], folder: Path, limit: float) -> Timed:
    """Run a program in `folder` with these variables on top, for at most `limit` seconds."""
    # As it is now: bench/_runs.py sets SWARM_STATE. Every tool may keep compiled modules, as on a user's computer.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env={**inherited, **variables},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        timeout=limit,
    )
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Timed(done.returncode, seconds, cpu, f"{done.stdout[-_LAST:]}\n{done.stderr[-_LAST:]}")
