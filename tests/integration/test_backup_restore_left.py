"""What a restore that was killed or has failed leaves: files in the staging directory, and an rsync that still runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from swarm.backup.busy import hold_host
from swarm.deadline import Deadline
from swarm.errors import Refused, VerificationFailed
from tests.conftest import ROOT
from tests.integration.restored import Place, contents, make_place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from swarm.ssh.guest import Guest
    from tests.conftest import Dirs

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other accounts")

PATIENCE = 60.0  # seconds that a loaded machine may need
SEND = """
import sys
from pathlib import Path
from swarm.backup.busy import hold_host
from swarm.backup.swap import send
from swarm.ssh.guest import Guest
config, alias, mirror, staging = sys.argv[1:]
with hold_host("zap") as lock:
    send(Guest(Path(config), alias), "zap", Path(mirror), staging, lock=lock)
"""


@pytest.fixture
def place(guest: Guest, tmp_path: Path) -> Place:
    """A state directory with old content, and a mirror with new content."""
    return make_place(guest, tmp_path)


def wait_until(true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    deadline = Deadline(PATIENCE)
    while not true():
        assert deadline.pause(0.002), "time is up"


def leftover(place: Place, later: int) -> None:
    """Leave another content in the staging directory: of the same size, and `later` by so many nanoseconds."""
    staged, source = place.home / ".openclaw-restore/staging/identity/key", place.mirror / "identity/key"
    staged.parent.mkdir(parents=True)
    staged.write_bytes(b"?" * source.stat().st_size)
    os.utime(staged, ns=(0, source.stat().st_mtime_ns + later))


def test_a_leftover_of_the_same_second_is_replaced(place: Place) -> None:
    """What an earlier run left is not taken for the same file only because size and second are the same."""
    os.utime(place.mirror / "identity/key", ns=(0, 1_700_000_000_000_000_000))
    leftover(place, 1)
    assert place.restore().changed
    assert contents(place.state) == contents(place.mirror)


@pytest.mark.slow
def test_a_leftover_blocks_only_one_restore(place: Place) -> None:
    """A leftover that rsync can't tell from the file fails the check, and is gone then: the next restore works."""
    leftover(place, 0)
    before = contents(place.state)
    with pytest.raises(VerificationFailed, match="identity/key: the content differs"):
        place.restore()
    assert contents(place.state) == before
    assert place.restore().changed
    assert contents(place.state) == contents(place.mirror)


def test_rsync_keeps_the_lock_of_a_killed_restore(place: Place, dirs: Dirs) -> None:
    """After kill -9 the host is locked until rsync has ended, and no longer: no kept connection holds the lock."""
    (place.mirror / "agents/big").write_bytes(os.urandom(64 << 20))
    place.guest.close()  # so that rsync's ssh is the first one
    words = [place.guest.link.config, place.guest.alias, place.mirror, dirs.hosts.parent / "staging"]
    with subprocess.Popen([sys.executable, "-c", SEND, *map(str, words)], cwd=ROOT) as child:
        wait_until(lambda: bool(rsync_of(child.pid)))
        (rsync,) = rsync_of(child.pid)
        os.kill(rsync, signal.SIGSTOP)
        child.kill()
    try:
        assert not free()
    finally:
        os.kill(rsync, signal.SIGCONT)
    wait_until(free)


def rsync_of(parent: int) -> list[int]:
    """Return the process IDs of the rsync that a process has started."""
    done = subprocess.run(
        ["pgrep", "-P", str(parent), "-x", "rsync"], capture_output=True, text=True, check=False
    )
    return [int(word) for word in done.stdout.split()]


def free() -> bool:
    """Whether the host's lock is free."""
    try:
        with hold_host("zap"):
            return True
    except Refused:
        return False


def test_an_rsync_that_fails_without_a_word(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If rsync says nothing about an error of a file in the guest, it is asked once more."""
    wrapper, calls = tmp_path / "programs" / "rsync", tmp_path / "calls"
    wrapper.parent.mkdir()
    wrapper.write_text(
        f"#!/bin/sh\necho call >>{calls}\n[ -e {calls}.again ] || {{ touch {calls}.again; exit 11; }}\n"
        f'exec {shutil.which("rsync")} "$@"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    place.restore()
    assert calls.read_text().split() == ["call", "call"]
    assert contents(place.state) == contents(place.mirror)
