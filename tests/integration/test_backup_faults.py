"""Faults during a backup: the mirror stays whole, the error says what happened, and the next backup completes it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from swarm import history
from swarm.backup import record
from swarm.backup.busy import hold_host
from swarm.backup.mirror import Source
from swarm.backup.now import back_up
from swarm.console import Talk, screen
from swarm.errors import CommandFailed, Refused, Unfit, Unreachable
from swarm.paths import ROOT
from tests.integration.guest_state import make_place, own_server
from tests.state import DATABASE, snapshot_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Dirs
    from tests.integration.guest_state import Place
    from tests.sshd import Sshd

SLACK = 60.0  # seconds that a loaded machine may need


@pytest.fixture
def place(server: Sshd, keys: Path, dirs: Dirs) -> Iterator[Place]:
    """A guest with a state directory."""
    with make_place(server, keys, dirs.hosts.parent) as made:
        yield made


def wait_until(true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    limit = time.monotonic() + SLACK
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_runs_and_failures_are_remembered(place: Place) -> None:
    """Each run, also a failed one, is in the host's history with its duration and the size of the archive."""

    def run() -> None:
        source = Source(place.guest().link, place.host, None, place.user, str(place.state))
        back_up(source, place.settings, Talk(screen(), quiet=True))

    run()
    (place.state / "agents").rename(place.home / "agents")
    with pytest.raises(Refused):
        run()
    (place.home / "agents").rename(place.state / "agents")
    first, second = history.entries(place.host, "backup")
    assert (first["result"], second["result"]) == ("success", "failure")
    assert first["stored"] == record.load(place.host).stored > 0
    assert first["seconds"] > 0


def test_a_path_that_is_too_long_fails_by_name(place: Place) -> None:
    """A path of more than 4096 bytes is named, and everything else is in the mirror."""
    shown = "d" * 200
    folder = os.open(place.state, os.O_RDONLY)
    for _ in range(22):
        os.mkdir(shown, dir_fd=folder)
        inner = os.open(shown, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    with pytest.raises(CommandFailed, match=f"not every file could be copied: .*{shown}.*"):
        place.backup()
    assert {"openclaw.json", DATABASE, "agents/main/sessions/0001.jsonl"} <= snapshot_of(place.mirror).keys()
    assert not place.unfinished.exists(), "this mirror can be restored"
    shutil.rmtree(place.state / shown)


def test_an_unreadable_file_fails_by_name(dirs: Dirs, keys: Path) -> None:
    """A file that the login may not read is named, and everything else is in the mirror."""
    base = dirs.hosts.parent
    with own_server(base / "sshd", keys) as server, make_place(server, keys, base) as place:
        place.log_in_as_account(server, keys)
        blocked = place.state / "agents/main/sessions/blocked.jsonl"
        blocked.write_text("x", encoding="utf-8")
        blocked.chmod(0)
        with pytest.raises(CommandFailed, match=r"not every file could be copied: .*/blocked\.jsonl.*denied"):
            place.backup()
        found = snapshot_of(place.mirror)
        assert {"openclaw.json", DATABASE, "agents/main/sessions/0001.jsonl"} <= found.keys()
        assert not place.unfinished.exists(), "this mirror can be restored"
        blocked.unlink()
        assert place.backup().changed


def test_files_that_vanish_meanwhile_are_noted(place: Place) -> None:
    """Session files that vanish during the transfer leave a note, and the backup succeeds."""
    place.backup()
    (place.state / "aaa").write_bytes(os.urandom(1 << 20))
    sessions = place.state / "agents/main/sessions"
    for number in range(100, 110):
        (sessions / f"{number:04d}.jsonl").write_bytes(os.urandom(300_000))
    place.own()
    place.settings = place.settings.model_copy(update={"bwlimit": 2048})
    failures: list[BaseException] = []

    def remove() -> None:
        try:
            wait_until(place.unfinished.exists)
            wait_until(lambda: any(place.mirror.glob("**/.~tmp~")))
            for number in range(105, 110):
                (sessions / f"{number:04d}.jsonl").unlink()
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    thread = threading.Thread(target=remove)
    thread.start()
    done = place.backup()
    thread.join()
    assert not failures
    assert done.notes == ("some files vanished in the guest while they were copied",)
    place.backup()
    assert not (place.mirror / "agents/main/sessions/0109.jsonl").exists()


@pytest.fixture
def small_disk(base: Path) -> Iterator[Path]:
    """A disk of 3 MiB."""
    path = base / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(path)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a disk needs root")
    yield path
    subprocess.run(["umount", str(path)], check=True)
    path.rmdir()


def test_a_full_disk_leaves_the_mirror_whole(place: Place, small_disk: Path) -> None:
    """If the disk cannot hold what is new, the disk is named, and the old mirror is as it was."""
    place.mirror = small_disk / "zap"
    place.backup()
    before = snapshot_of(place.mirror)
    (place.state / "agents/main/large").write_bytes(os.urandom(6 << 20))
    (place.state / ".env").write_text("NEW=1\n", encoding="utf-8")
    with pytest.raises(Unfit, match=f"{small_disk}/zap: the disk is full: the copy needs .* are free"):
        place.backup()
    assert snapshot_of(place.mirror) == before


def test_a_disk_that_fills_up_meanwhile_leaves_the_mirror_whole(place: Place, small_disk: Path) -> None:
    """If space runs out during the transfer, the disk is named, and the old mirror is as it was."""
    place.mirror = small_disk / "zap"
    # What sparse files do not occupy is not counted beforehand, so the transfer starts.
    with (place.state / "sparse").open("wb") as file:
        file.truncate(64 << 20)
    place.backup()
    before = snapshot_of(place.mirror)
    (place.state / "large").write_bytes(os.urandom(6 << 20))
    (place.state / ".env").write_text("NEW=1\n", encoding="utf-8")
    with pytest.raises(Unfit, match=f"{small_disk}/zap: the disk is full"):
        place.backup()
    assert snapshot_of(place.mirror) == before


def test_two_backups_at_once_are_refused(place: Place) -> None:
    """While one backup holds the host's lock, another is refused and says so."""
    with hold_host(place.host), pytest.raises(Refused, match="a backup of zap is running"):
        place.backup()
    assert place.backup().changed


CHILD = """
import os, sys
from tests.integration.guest_state import Place
Place.load(sys.argv[1]).backup()
"""


@pytest.mark.slow
def test_rsync_keeps_the_lock_of_a_killed_parent(place: Place) -> None:
    """After kill -9 the lock is free only when rsync has ended, and the next backup completes the mirror."""
    place.backup()
    (place.state / "large").write_bytes(os.urandom(8 << 20))
    place.own()
    place.settings = place.settings.model_copy(update={"bwlimit": 512})
    with subprocess.Popen(
        [sys.executable, "-P", "-c", CHILD, str(place.save())], cwd=ROOT, env=place.env()
    ) as child:
        wait_until(lambda: place.unfinished.exists() and any(place.mirror.glob(".large.*")))
        child.send_signal(signal.SIGKILL)
    with pytest.raises(Refused, match="a backup of zap is running"):
        place.backup()

    def free() -> bool:
        try:
            with hold_host(place.host):
                return True
        except Refused:
            return False

    wait_until(free)
    place.settings = place.settings.model_copy(update={"bwlimit": None})
    assert place.backup().changed
    found = snapshot_of(place.mirror)
    assert found["large"] == (place.state / "large").read_bytes()
    assert not [name for name in found if ".~tmp~" in name or name.startswith(".large")]
    assert not place.backup().changed


@pytest.mark.slow
def test_ctrl_c_ends_rsync(place: Place) -> None:
    """After Ctrl-C rsync has ended with its parent, the lock is free, and the next backup completes the mirror."""
    place.backup()
    (place.state / "large").write_bytes(os.urandom(8 << 20))
    place.own()
    place.settings = place.settings.model_copy(update={"bwlimit": 512})
    command = [sys.executable, "-P", "-c", CHILD, str(place.save())]
    with subprocess.Popen(command, cwd=ROOT, env=place.env(), stderr=subprocess.PIPE) as child:
        wait_until(lambda: any(place.mirror.glob("**/.large.*")))
        child.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in child.communicate()[1]
    assert not (place.mirror / "large").exists()
    assert place.unfinished.exists()
    place.settings = place.settings.model_copy(update={"bwlimit": None})
    assert place.backup().changed
    assert (place.mirror / "large").read_bytes() == (place.state / "large").read_bytes()


def test_a_broken_connection_leaves_the_mirror_whole(place: Place) -> None:
    """If the connection breaks during the transfer, the error says so, and the next backup completes the mirror."""
    place.backup()
    before = snapshot_of(place.mirror)
    (place.state / "large").write_bytes(os.urandom(8 << 20))
    place.own()
    place.settings = place.settings.model_copy(update={"bwlimit": 512})

    def cut() -> None:
        wait_until(lambda: any(place.mirror.glob("**/.large.*")))
        place.guest().close()

    thread = threading.Thread(target=cut)
    thread.start()
    with pytest.raises(Unreachable, match="the connection broke while files were copied"):
        place.backup()
    thread.join()
    assert snapshot_of(place.mirror) == before
    place.settings = place.settings.model_copy(update={"bwlimit": None})
    assert place.backup().changed
    assert (place.mirror / "large").read_bytes() == (place.state / "large").read_bytes()
