"""Restore single files, with a real HTTP server as the gateway, and after kill -9."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from swarm.backup.restore import Restored, restore, restore_paths
from swarm.errors import CommandFailed, UsageError, VerificationFailed
from swarm.text import quote
from tests.conftest import ROOT
from tests.integration.restored import ODD, Place, contents, make_place, manifest_of
from tests.sshd import USER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from swarm.ssh.guest import Guest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other accounts")

PATIENCE = 60.0  # seconds that a loaded machine may need


@pytest.fixture
def place(guest: Guest, tmp_path: Path) -> Place:
    """A state directory with old content, and a mirror with new content."""
    return make_place(guest, tmp_path)


# ── single files ─────────────────────────────────────────────────────────────────────────────────────────────────────


def of_paths(place: Place, *paths: str, plan_only: bool = False) -> Restored:
    """Restore some paths of the mirror."""
    return restore_paths(
        place.target, place.mirror, manifest_of(place.mirror), paths, place.talk, plan_only=plan_only
    )


@pytest.mark.parametrize("name", ODD)
def test_a_single_file_of_any_name_can_be_restored(place: Place, name: bytes) -> None:
    """A file is restored by its name, and nothing else changes."""
    path, before = os.fsdecode(name), contents(place.state)
    done = of_paths(place, path)
    assert done.changes.update == (path,)
    assert contents(place.state) == {**before, path: b"new"}
    assert not of_paths(place, path).changes


def test_a_subtree_can_be_restored(place: Place) -> None:
    """A directory is restored with all that it contains, where the directory above it is missing too."""
    shutil.rmtree(place.state / "agents")
    before = contents(place.state)
    assert of_paths(place, "agents/main/", plan_only=True).changes.create[0] == "agents/main"
    of_paths(place, f"{place.state}/agents/main/")
    inside = {f"agents/main/{name}": data for name, data in contents(place.mirror / "agents/main").items()}
    assert contents(place.state) == {**before, "agents": None, "agents/main": None, **inside}


def test_a_path_that_is_not_in_the_backup_is_an_error(place: Place) -> None:
    """The error names the path, and nothing has changed."""
    with pytest.raises(UsageError, match="agents/none is not in this backup"):
        of_paths(place, "openclaw.json", "agents/none")
    assert place.replaced == []


def test_a_single_file_is_not_restored_through_a_link(place: Place, tmp_path: Path) -> None:
    """A link in the place of the directory above the file is an error. What it points to is untouched."""
    shutil.rmtree(place.state / "identity")
    (tmp_path / "outside").mkdir()
    (place.state / "identity").symlink_to(tmp_path / "outside")
    with pytest.raises(VerificationFailed, match="identity is not a directory, or is a link"):
        of_paths(place, "identity/key")
    assert contents(tmp_path / "outside") == {}


def test_a_single_database_loses_the_sidecars_of_the_old_one(place: Place) -> None:
    """The -wal, -shm and -journal of the replaced database are moved aside with it."""
    for suffix in ("-wal", "-shm", "-journal"):
        (place.state / f"state/openclaw.sqlite{suffix}").write_bytes(b"\x37\x7f\x06\x82" + b"junk" * 5000)
    of_paths(place, "state/openclaw.sqlite")
    assert [path.name for path in (place.state / "state").iterdir()] == ["openclaw.sqlite"]
    assert len(list((place.replaced[0] / "state").iterdir())) == 4
    with contextlib.closing(sqlite3.connect(place.state / "state/openclaw.sqlite")) as database:
        assert database.execute("SELECT count(*), min(word) FROM said").fetchone() == (200, "new")


# ── the gateway ──────────────────────────────────────────────────────────────────────────────────────────────────────

SERVER = """
import http.server, pathlib, sys
config = pathlib.Path(sys.argv[1])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if self.path != "/readyz" or "bad" in config.read_text() else 200)
        self.end_headers()
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
"""


@dataclass
class Process:
    """A gateway: a real process that is ready unless its configuration contains the word bad."""

    config: Path
    port: int
    calls: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    broken: bool = False

    def stop(self) -> bool:
        """End the process."""
        self.calls.append("stop")
        if self.process:
            self.process.kill()
            self.process.wait()
        return True

    def start(self) -> None:
        """Start the process, unless it is broken."""
        self.calls.append("start")
        if self.broken:
            raise CommandFailed("zap: the second trouble")
        self.process = subprocess.Popen([sys.executable, "-c", SERVER, str(self.config), str(self.port)])


@pytest.fixture
def gateway(place: Place) -> Iterator[Process]:
    """A running gateway of the state directory."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = Process(place.state / "openclaw.json", port)
    made.start()
    made.calls.clear()
    yield made
    made.stop()


def with_gateway(place: Place, gateway: Process, timeout: float) -> Restored:
    """Restore the mirror while the gateway rests."""
    target = replace(place.target, port=gateway.port, service=gateway)
    manifest = manifest_of(place.mirror)
    return restore(target, place.mirror, manifest, place.settings, place.talk, ready_timeout=timeout)


def test_the_gateway_rests_while_the_files_are_swapped(place: Place, gateway: Process) -> None:
    """The gateway is stopped once, started once, and ready at the end."""
    done = with_gateway(place, gateway, PATIENCE)
    assert done.changed
    assert gateway.calls == ["stop", "start"]
    assert contents(place.state) == contents(place.mirror)


@pytest.mark.slow
def test_a_gateway_that_does_not_get_ready_gets_the_old_state_back(place: Place, gateway: Process) -> None:
    """Everything is moved back, also what is excluded, and the gateway is started with it."""
    (place.state / "agents/main/x.failed").write_text("mine")
    before = contents(place.state)
    (place.mirror / "openclaw.json").write_text("bad")
    with pytest.raises(
        VerificationFailed, match=r"is not ready after 2 s \(HTTP status 503\); the old state is back"
    ):
        with_gateway(place, gateway, 2)
    assert contents(place.state) == before
    assert gateway.calls == ["stop", "start", "stop", "start"]
    assert place.replaced == []
    assert (place.state / "agents/main/x.failed").read_text() == "mine"
    (place.mirror / "openclaw.json").write_text("good")
    assert with_gateway(place, gateway, PATIENCE).changed


@pytest.mark.slow
def test_what_a_gateway_has_written_meanwhile_is_in_nobodys_way(place: Place, gateway: Process) -> None:
    """A gateway that starts but is not ready may have written files anew. The old ones still come back."""
    (place.state / "port.lock").write_text("old")
    before = contents(place.state)
    (place.mirror / "openclaw.json").write_text("bad")

    def start() -> None:
        (place.state / "port.lock").write_text("of the failed start")
        Process.start(gateway)

    gateway.start = start  # type: ignore[method-assign]
    with pytest.raises(VerificationFailed, match="the old state is back"):
        with_gateway(place, gateway, 1)
    assert contents(place.state) == {**before, "port.lock": b"of the failed start"}, (
        "written by the second start"
    )
    assert [path.read_text() for path in (place.home / ".openclaw-restore/failed").iterdir()] == [
        "of the failed start"
    ]


@pytest.mark.slow
def test_the_first_error_is_told_first(place: Place, gateway: Process) -> None:
    """If putting the old state back fails too, the message begins with what went wrong at first."""
    (place.mirror / "openclaw.json").write_text("bad")
    before = contents(place.state)

    def start() -> None:
        Process.start(gateway)
        gateway.broken = True

    gateway.start = start  # type: ignore[method-assign]
    expected = r"^zap: the gateway is not ready .*; then putting the old state back failed too: zap: the second trouble"
    with pytest.raises(VerificationFailed, match=expected):
        with_gateway(place, gateway, 1)
    assert contents(place.state) == before


# ── a killed run ─────────────────────────────────────────────────────────────────────────────────────────────────────


RESTORE = """
import sys
from pathlib import Path
from swarm.backup.manifest import Manifest
from swarm.backup.restore import Target, restore
from swarm.console import Screen, Talk
from swarm.inventory.backup import BackupSettings
from swarm.ssh.guest import Guest
config, alias, user, state, mirror, manifest = sys.argv[1:]
target = Target(Guest(Path(config), alias), "zap", user, state, 1, service=False)
restore(target, Path(mirror), Manifest.from_bytes(Path(manifest).read_bytes()), BackupSettings(), Talk(Screen()))
"""


def killed_in_mid_swap(place: Place) -> bool:
    """Restore in another process, and kill it and the program in the guest. Return whether that was in mid-swap."""
    for number in range(3000):
        (place.state / f"old{number}").write_text("old")
        (place.mirror / f"new{number}").write_text("new")
    journal, manifest = place.home / ".openclaw-restore/journal.json", place.home.parent / "manifest"
    manifest.write_bytes(manifest_of(place.mirror).to_bytes())
    words = [place.guest.link.config, place.guest.alias, USER, place.state, place.mirror, manifest]
    process = subprocess.Popen([sys.executable, "-c", RESTORE, *map(str, words)], cwd=ROOT)
    while process.poll() is None and not journal.exists():
        time.sleep(0.0005)
    process.kill()
    with contextlib.suppress(OSError), journal.open("rb") as file:
        os.kill(
            int(re.findall(rb"\d+", file.read(30))[0]), signal.SIGKILL
        )  # the first number is its process ID
    process.wait()
    return journal.exists() and json.loads(journal.read_text())["phase"] == "swapping"


@pytest.mark.slow
def test_a_swap_that_was_killed_is_rolled_back_by_the_next_run(guest: Guest, tmp_path: Path) -> None:
    """After kill -9 of swarm and of its program in mid-swap, the next restore first puts the old state back."""
    for attempt in range(20):  # on a busy machine, the swap may be over before it is killed
        place = make_place(guest, tmp_path / str(attempt))
        if killed_in_mid_swap(place):
            break
    before = {
        path: data for path, data in contents(place.home).items() if not path.startswith(".openclaw-restore")
    }
    old = {f"old{number}": b"old" for number in range(3000)}
    assert place.restore(plan_only=True).changes
    after = {
        path: data for path, data in contents(place.home).items() if not path.startswith(".openclaw-restore")
    }
    assert after == before, "a plan has changed something"
    assert place.restore().changed
    assert contents(place.state) == contents(place.mirror)
    (aside,) = place.replaced
    assert {path: data for path, data in contents(aside).items() if path.startswith("old")} == old
    assert (aside / "agents/main/session4.jsonl").exists()


def test_a_swap_that_was_complete_is_not_rolled_back(place: Place) -> None:
    """If only the clean-up is missing, the gateway may have worked since: the next run keeps that state."""
    place.restore()
    work = place.home / ".openclaw-restore"
    (work / "journal.json").write_text(
        json.dumps(
            {
                "phase": "swapped",
                "moves": [[".openclaw-restore/staging/hooks", ".openclaw/hooks"]],
                "aside": f".openclaw-replaced/{place.replaced[0].name}",
            }
        )
    )
    assert not place.restore().changed
    assert contents(place.state) == contents(place.mirror)
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("phase", ["swapping", "swapped"])
@pytest.mark.parametrize("whole", [True, False])
def test_the_gateway_of_a_killed_restore_is_started(
    place: Place, gateway: Process, phase: str, *, whole: bool
) -> None:
    """A restore that was killed while the gateway rested is settled, and the gateway runs again, whatever follows."""
    place.restore()
    gateway.stop()
    (place.home / ".openclaw-restore/journal.json").write_text(json.dumps({"phase": phase, "moves": []}))
    if whole:
        assert not with_gateway(place, gateway, PATIENCE).changed
    else:
        target, manifest = replace(place.target, service=gateway), manifest_of(place.mirror)
        assert not restore_paths(target, place.mirror, manifest, ["agents/-rf"], place.talk).changed
    assert gateway.calls[-1] == "start"


def test_a_directory_that_is_named_nearly_like_the_reserved_one_is_restored(place: Place) -> None:
    """Archives reserve `.swarm-archive`, and nothing whose name only begins like that."""
    for name in (".swarm-archive-old", ".swarm-archives"):
        (place.mirror / name).mkdir()
        (place.mirror / name / "notes").write_text("kept", encoding="utf-8")
    place.restore()
    assert contents(place.state) == contents(place.mirror)


def test_holes_and_hard_links_need_no_space(place: Place) -> None:
    """A sparse file that is larger than the guest's disk is restored, as it was there before."""
    with (place.mirror / "agents/sparse").open("wb") as file:
        file.truncate(64 << 20)
    (place.mirror / "agents/block").write_bytes(os.urandom(1 << 20))
    for number in range(4):
        os.link(place.mirror / "agents/block", place.mirror / f"agents/link{number}")
    home, state = quote(place.home), quote(place.state)
    place.guest.run(f"mount -t tmpfs -o size=3m tmpfs {home} && mkdir -m 700 {state}")
    try:
        assert place.restore().changed
        assert place.guest.run(f"stat -c %s {state}/agents/sparse").stdout == f"{64 << 20}\n"
    finally:
        place.guest.run(f"umount {home}")
