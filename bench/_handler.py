"""The part of bench/hook.py that needs only Node: `_events.ts` plays the gateway, `_endpoint.ts` the endpoint."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.paths import ROOT
from tools.lab.process import LabError, tail
from tools.node import node
from tools.seaweed import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DOWN", "HANGS", "OURS", "SLOW", "UP", "endpoint", "fill", "measure", "restart"]

OURS = ROOT / "hooks/agentmon/handler.ts"
UP, SLOW, HANGS, DOWN = "up", "slow", "hangs", "down"
_WAITS = {UP: 0, SLOW: 30_000, HANGS: -1}  # milliseconds
_LIMIT = 400.0  # seconds for one measurement
_OWN = 200  # events that a restarted hook gets on top of what its spool holds


@contextmanager
def endpoint(state: str) -> Iterator[str]:
    """Give the URL of an endpoint in a state, one of UP, SLOW, HANGS and DOWN."""
    if state == DOWN:
        yield f"http://127.0.0.1:{free_ports(1)[0]}"
        return
    command = [str(node()), str(ROOT / "bench/_endpoint.ts"), str(_WAITS[state])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None  # noqa: S101 - a pipe was asked for
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def measure(hook: Path, state: str, name: str, count: int, **variables: str) -> dict[str, float]:
    """Return a measurement of `_events.ts` with a hook and an endpoint, in a process and a state folder of its own."""
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as folder, endpoint(state) as url:
        return _run(hook, name, count, Path(folder), url, variables)


def restart(size: int, **variables: str) -> dict[str, float]:
    """Return how our hook delivers a spool of so many bytes after a start."""
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as folder, endpoint(UP) as url:
        if size:
            fill(size, Path(folder))
        return _run(OURS, "restart", _OWN, Path(folder), url, variables)


def fill(size: int, state: Path) -> None:
    """Put so many bytes of events into the spool of a state folder, as a killed process leaves them."""
    _run(OURS, "fill", size, state, "http://127.0.0.1:1", {})


def _run(
    hook: Path, name: str, count: int, folder: Path, url: str, variables: dict[str, str]
) -> dict[str, float]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "OPENCLAW_STATE_DIR": str(folder),
        "AGENTMON_INGEST_URL": url,
        **variables,
    }
    command = [str(node()), "--expose-gc", str(ROOT / "bench/_events.ts"), str(hook), name, str(count)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=_LIMIT
    )
    if done.returncode:
        raise LabError(f"{name} of {hook.parent.name}/{hook.name} failed: {tail(done.stderr)}")
    found: dict[str, float] = json.loads(done.stdout)
    return found
