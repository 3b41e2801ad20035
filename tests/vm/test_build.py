"""A real image build, interrupted by each signal. The lab in this directory starts from a complete build."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm.images.build import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
ENSURE = (
    "from swarm import images; from swarm.console import Screen, Talk; images.ensure('built', Talk(Screen()))"
)

pytestmark = pytest.mark.slow


@pytest.fixture
def cache(base: Path) -> Iterator[Path]:
    """Return the directory of an empty image cache."""
    if os.geteuid() or (
        missing := [
            name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        ]
    ):
        pytest.skip("building needs root" if os.geteuid() else f"building needs {', '.join(missing)}")
    path = base / "builds" / "images"
    path.mkdir(parents=True)
    yield path
    shutil.rmtree(path.parent)


def running(folder: Path) -> list[str]:
    """Return the command lines of processes that have `folder` in their arguments, working directory or root."""
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            words = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            places = [str((proc / name).readlink()) for name in ("cwd", "root")]
        except OSError:
            continue
        if any(str(folder) in text for text in (words, *places)):
            found.append(words)
    return found


@pytest.mark.parametrize(
    ("how", "begun"),
    [
        (signal.SIGINT, "var/lib/dpkg/status"),  # while the first packages are unpacked
        (signal.SIGTERM, "var/lib/dpkg/status"),
        (signal.SIGKILL, "usr/bin/systemctl"),  # while the others are installed
    ],
)
def test_an_interrupted_build_leaves_nothing(cache: Path, how: signal.Signals, begun: str) -> None:
    """A build that is interrupted leaves no process, no mount and no file."""
    environment = {**os.environ, "SWARM_CACHE": str(cache.parent)}
    process = subprocess.Popen(
        [sys.executable, "-c", ENSURE],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    end = time.monotonic() + 120
    while not list(cache.glob(f"*/root/{begun}")):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.1)
    process.send_signal(how)
    process.communicate(timeout=60)
    end = time.monotonic() + 30  # after kill -9 the builder, a separate process, still cleans up
    while running(cache) and time.monotonic() < end:
        time.sleep(0.1)
    assert running(cache) == []
    assert str(cache) not in Path("/proc/mounts").read_text()
    assert [path.name for path in cache.iterdir() if not path.name.endswith(".lock")] == []
