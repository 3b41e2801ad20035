"""Restore into a real directory over a real sshd, with real rsync and SQLite, and a real HTTP server as the gateway."""

from __future__ import annotations

import contextlib
import grp
import hashlib
import json
import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm.backup.manifest import Entry, Manifest
from swarm.backup.restore import Restored, Target, restore, restore_paths
from swarm.console import Screen, Talk
from swarm.errors import CommandFailed, Refused, UsageError, VerificationFailed
from swarm.inventory.backup import BackupSettings
from tests.sshd import USER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.backup.changes import Changes
    from swarm.ssh.guest import Guest
    from tests.sshd import Sshd

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other accounts")

PATIENCE = 60.0  # seconds that a loaded machine may need
ODD = [
    b"agents/\xff\xfe",
    b"agents/new\nline",
    b"agents/\x1b[31mred",
    b"agents/-rf",
    b"agents/#a;'\"$(id) b",
    b"agents/" + b"n" * 255,
]


def make_state(folder: Path, word: str = "new", files: int = 3) -> Path:
    """Write a small state directory: secrets, a database in WAL mode, links, hard links, odd names, an empty folder."""
    for name in ("agents/main/agent", "credentials/telegram", "identity", "hooks", "workspace-two", "state"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in ("openclaw.json", ".env", "credentials/telegram/token", "identity/key", "workspace-two/MEMORY.md"):
        (folder / name).write_text(json.dumps({"word": word, "name": name}))
    for number in range(files):
        (folder / f"agents/main/session{number}.jsonl").write_text(f"{word} {number}\n" * 40)
    for odd in ODD:
        Path(os.fsdecode(bytes(folder) + b"/" + odd)).write_text(word)
    with contextlib.suppress(FileExistsError):
        (folder / "hooks/passwd").symlink_to("/etc/passwd")
        (folder / "hooks/self").symlink_to("../openclaw.json")
        os.link(folder / "agents/main/session0.jsonl", folder / "agents/main/twin.jsonl")
    with contextlib.closing(sqlite3.connect(folder / "state/openclaw.sqlite")) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE IF NOT EXISTS said (word)")
        database.executemany("INSERT INTO said VALUES (?)", [(word,)] * 200)
        database.commit()
    return folder


def entries_of(folder: Path) -> list[Entry]:
    """List a tree as a manifest does."""
    found, names = [], {}
    for path in sorted(folder.rglob("*")):
        info, name = path.lstat(), str(path.relative_to(folder))
        owner, group = pwd.getpwuid(info.st_uid).pw_name, grp.getgrgid(info.st_gid).gr_name
        made = Entry(name, "directory", info.st_mode & 0o7777, info.st_mtime_ns, owner, group)
        if path.is_symlink():
            made = replace(made, kind="link", target=str(path.readlink()))
        elif path.is_file() and info.st_ino in names:
            made = replace(made, kind="hard", target=names[info.st_ino])
        elif path.is_file():
            names[info.st_ino] = name
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            made = replace(made, kind="file", size=info.st_size, sha256=digest)
        found.append(made)
    return found


def manifest_of(folder: Path, user: str = USER, exclude: tuple[str, ...] = ()) -> Manifest:
    """Return the manifest of a tree, whose databases are recognized by their name."""
    entries = entries_of(folder)
    databases = {each.path: {"said": 200} for each in entries if each.path.endswith(".sqlite")}
    return Manifest("zap", "2026-11-25T03:00:00Z", user, tuple(entries), databases, exclude)


def contents(folder: Path) -> dict[str, object]:
    """Return each path with its content, to compare two trees."""
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


@dataclass
class Place:
    """A state directory in the guest, and a mirror to restore from."""

    guest: Guest
    home: Path
    mirror: Path
    talk: Talk = field(default_factory=lambda: Talk(Screen(), quiet=True))
    settings: BackupSettings = field(default_factory=BackupSettings)

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.home / ".openclaw"

    @property
    def replaced(self) -> list[Path]:
        """The trees that were moved aside, the oldest first."""
        return sorted((self.home / ".openclaw-replaced").glob("*"))

    @property
    def target(self) -> Target:
        """The guest without a gateway."""
        return Target(self.guest, "zap", USER, str(self.state), 1, service=False)

    def restore(self, **options: bool) -> Restored:
        """Restore the mirror."""
        return restore(self.target, self.mirror, manifest_of(self.mirror), self.settings, self.talk, **options)


@pytest.fixture
def place(guest: Guest, tmp_path: Path) -> Place:
    """A state directory with old content, and a mirror with new content."""
    made = Place(guest, tmp_path / "the home", tmp_path / "the mirror")
    make_state(made.mirror)
    make_state(made.state, "old", files=5)
    return made


def test_a_restore_makes_the_state_directory_equal_to_the_mirror(place: Place) -> None:
    """Every file, link and odd name is restored. What is not in the mirror is moved aside, with what was replaced."""
    before = contents(place.state)
    done = place.restore()
    assert done.changed
    assert done.problems == ()
    assert contents(place.state) == contents(place.mirror)
    assert (place.state / "agents/main/twin.jsonl").samefile(place.state / "agents/main/session0.jsonl")
    (aside,) = place.replaced
    assert str(aside) == done.aside
    assert contents(aside) == before
    assert sorted(path.name for path in (place.home / ".openclaw-restore").iterdir()) == []


def test_a_second_restore_finds_nothing_to_do(place: Place) -> None:
    """Right after a restore, the next one changes nothing."""
    place.restore()
    done = place.restore()
    assert (done.changed, bool(done.changes)) == (False, False)
    assert len(place.replaced) == 1


def test_a_plan_changes_nothing(place: Place) -> None:
    """A plan names what would change, and leaves the guest as it is."""
    before = contents(place.home)
    done = place.restore(plan_only=True)
    assert done.changes.delete == ("agents/main/session3.jsonl", "agents/main/session4.jsonl")
    assert {"openclaw.json", "state/openclaw.sqlite"} <= set(done.changes.update)
    assert contents(place.home) == before


def test_a_restore_that_is_not_confirmed_changes_nothing(place: Place) -> None:
    """The changes are confirmed before anything is copied."""

    def confirm(planned: Changes) -> None:
        raise Refused(f"{len(planned.delete)} would go")

    before = contents(place.home)
    with pytest.raises(Refused, match="2 would go"):
        restore(
            place.target, place.mirror, manifest_of(place.mirror), place.settings, place.talk, confirm=confirm
        )
    assert contents(place.home) == before


def test_a_guest_without_a_state_directory_gets_one(place: Place) -> None:
    """On a new machine there is nothing to move aside."""
    shutil.rmtree(place.state)
    done = place.restore()
    assert done.aside == ""
    assert contents(place.state) == contents(place.mirror)


def test_modes_are_restored_and_secrets_are_private(place: Place) -> None:
    """The state directory and the secrets are for the account alone, other files as the manifest says, times too."""
    (place.mirror / "workspace-two/MEMORY.md").chmod(0o751)
    (place.mirror / "credentials/telegram").chmod(0o755)
    place.state.chmod(0o755)
    os.utime(place.mirror / "agents/main", ns=(1, 1234567890123456789))
    place.restore()

    def mode(name: str) -> int:
        return (place.state / name).stat().st_mode & 0o7777

    assert [mode(name) for name in (".", "openclaw.json", ".env", "identity/key")] == [0o700, 0o600, 0o600, 0o600]
    assert [mode(name) for name in ("credentials/telegram", "state/openclaw.sqlite")] == [0o700, 0o600]
    assert mode("workspace-two/MEMORY.md") == 0o751
    assert (place.state / "agents/main").stat().st_mtime_ns == 1234567890123456789


def test_excluded_entries_stay_as_they_are(place: Place) -> None:
    """What a backup leaves out survives a restore, at the top and deep inside directories that are replaced."""
    for name in ("workspace/notes.md", "logs/today.log", "agents/main/old.backup-1", "agents/gone/x.failed"):
        (place.state / name).parent.mkdir(exist_ok=True)
        (place.state / name).write_text("mine")
    inode = (place.state / "workspace/notes.md").stat().st_ino
    done = place.restore()
    assert (place.state / "workspace/notes.md").stat().st_ino == inode
    assert (place.state / "logs/today.log").read_text() == "mine"
    assert (place.state / "agents/main/old.backup-1").read_text() == "mine"
    assert (place.replaced[0] / "agents/gone/x.failed").read_text() == "mine"
    assert any("1 excluded entries" in note for note in done.notes)
    assert not place.restore().changes


def test_what_rsync_leaves_out_is_left_out_here_too(place: Place) -> None:
    """A mirror made by rsync with the same patterns is found equal, whatever kind of pattern it is."""
    patterns = (
        "/top/", "*.log", "deep/inner/", "/a/*/c", "b?d", "[x-z]1", "[!a]2", "**/wild/*.tmp", "/only/***", "dir/",
        "a\\*b", "/q/**/end",
    )  # fmt: skip
    shutil.rmtree(place.state)
    shutil.rmtree(place.mirror)
    for name in (
        "top/x", "sub/top/x", "x.log", "sub/y.log/z", "deep/inner/f", "sub/deep/inner/f", "deep/f", "a/b/c", "a/c",
        "x/a/b/c", "bad", "s/bed", "bd", "x1", "w1", "b2", "a2", "p/wild/a.tmp", "p/wild/a.txt", "only/f", "z/only/f",
        "dir/f", "k/dir", "q/1/2/end", "q/end", "openclaw.json",
    ):  # fmt: skip
        (place.state / name).parent.mkdir(parents=True, exist_ok=True)
        (place.state / name).write_text(name)
    place.state.chmod(0o700)
    (place.state / "openclaw.json").chmod(0o600)
    excludes = [f"--exclude={pattern}" for pattern in patterns]
    subprocess.run(["rsync", "-a", *excludes, f"{place.state}/", f"{place.mirror}/"], check=True)
    place.settings = BackupSettings(exclude=patterns)
    done = place.restore(plan_only=True)
    assert done.changes.lines() == ["0 to create, 0 to update, 0 to delete"]


def test_a_database_opens_beside_what_the_old_one_left(place: Place) -> None:
    """The -wal and -shm of the replaced database, and stale ones in the mirror, are not beside the restored one."""
    place.settings = BackupSettings(exclude=(*BackupSettings().exclude, "*-wal", "*-shm"))
    for folder in (place.state, place.mirror):
        for suffix in ("-wal", "-shm", "-journal"):
            (folder / f"state/openclaw.sqlite{suffix}").write_bytes(b"\x37\x7f\x06\x82" + b"junk" * 5000)
    place.restore()
    assert [path.name for path in (place.state / "state").iterdir()] == ["openclaw.sqlite"]
    with contextlib.closing(sqlite3.connect(place.state / "state/openclaw.sqlite")) as database:
        assert database.execute("SELECT count(*), min(word) FROM said").fetchone() == (200, "new")


def test_rows_that_are_only_in_the_wal_are_a_change(place: Place) -> None:
    """A database whose main file is unchanged is restored if newer rows are in its -wal."""
    place.restore()
    with contextlib.closing(sqlite3.connect(place.state / "state/openclaw.sqlite")) as database:
        database.execute("INSERT INTO said VALUES ('later')")
        database.commit()
        assert place.restore(plan_only=True).changes.update == ("state/openclaw.sqlite",)


def test_many_restores_do_not_grow_the_state_directory(place: Place) -> None:
    """After each of five restores there are the same files, and only three of the replaced trees are kept."""
    counts = set()
    for number in range(5):
        (place.state / "agents/main/session0.jsonl").write_text(f"changed {number}")
        place.restore()
        counts.add(len(contents(place.state)))
        time.sleep(1.1)  # the replaced trees are named after the second
    assert counts == {len(contents(place.mirror))}
    assert len(place.replaced) == 3
    assert (place.replaced[-1] / "agents/main/session0.jsonl").read_text() == "changed 4"


def test_nothing_is_written_through_a_link(place: Place, tmp_path: Path) -> None:
    """A link in the place of a directory is replaced, in the guest as in the mirror. What it points to is untouched."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "session0.jsonl").write_text("precious")
    shutil.rmtree(place.state / "agents/main")
    (place.state / "agents/main").symlink_to(outside)
    shutil.rmtree(place.mirror / "hooks")
    (place.mirror / "hooks").symlink_to(outside)
    place.restore()
    assert contents(outside) == {"session0.jsonl": b"precious"}
    assert outside.stat().st_mode & 0o777 == 0o755
    assert (place.state / "hooks").readlink() == outside
    assert contents(place.state / "agents") == contents(place.mirror / "agents")


@pytest.mark.parametrize("name", [".openclaw", ".openclaw-restore", ".openclaw-replaced"])
def test_a_link_in_the_place_of_an_own_directory_is_refused(place: Place, tmp_path: Path, name: str) -> None:
    """The state directory, the staging directory and the place of old trees must be real directories."""
    outside = tmp_path / "outside"
    outside.mkdir()
    before = contents(place.state)
    if name == ".openclaw":
        place.state.rename(place.home / "real")
    (place.home / name).symlink_to(outside)
    with pytest.raises(VerificationFailed, match=f"{name} is not a directory, or is a link"):
        place.restore()
    assert contents(outside) == {}
    assert contents(place.home / "real" if name == ".openclaw" else place.state) == before


def test_owners_are_restored_by_name(place: Place, server: Sshd) -> None:
    """Files belong to the account, though it has another ID and another name here. The account stands in for others."""
    accounts = server.folder / "passwd"
    with accounts.open("a") as file:
        file.write("agent:x:1501:1501::/nonexistent:/bin/sh\n")
    manifest = manifest_of(place.mirror, "ubuntu")
    owners = {"openclaw.json": "ubuntu", ".env": "nobody-here", "identity/key": "daemon"}
    entries = [
        replace(each, owner=owners.get(each.path, each.owner), group=owners.get(each.path, each.group))
        for each in manifest.entries
    ]
    target = replace(place.target, user="agent")
    manifest = replace(manifest, entries=tuple(entries))
    done = restore(target, place.mirror, manifest, place.settings, place.talk)
    daemon = pwd.getpwnam("daemon")

    def owner(name: str) -> tuple[int, int]:
        info = (place.state / name).lstat()
        return info.st_uid, info.st_gid

    assert [owner(name) for name in (".", "openclaw.json", ".env")] == [(1501, 1501)] * 3
    assert owner("identity/key") == (daemon.pw_uid, daemon.pw_gid)
    assert "the guest has no user nobody-here: agent takes its place" in done.notes
    assert not restore(target, place.mirror, manifest, place.settings, place.talk).changes


@pytest.mark.parametrize("harm", ["flip", "cut", "missing", "extra", "kind"])
def test_a_tree_that_is_not_what_the_manifest_lists_changes_nothing(place: Place, harm: str) -> None:
    """Each difference between the copy in the guest and the manifest is found before the swap, and named."""
    before, manifest, victim = contents(place.state), manifest_of(place.mirror), place.mirror / "identity/key"
    if harm == "flip":
        victim.write_bytes(victim.read_bytes()[:-1] + b"!")
    elif harm == "cut":
        victim.write_bytes(victim.read_bytes()[:-1])
    elif harm == "extra":
        (place.mirror / "identity/key2").touch()
    else:
        victim.unlink()
        if harm == "kind":
            victim.mkdir()
    with pytest.raises(VerificationFailed, match=r"nothing was changed: identity/key2?: "):
        restore(place.target, place.mirror, manifest, place.settings, place.talk)
    assert contents(place.state) == before
    assert place.replaced == []


def test_a_damaged_database_is_not_restored(place: Place) -> None:
    """A database that fails its integrity check is refused, though its checksum is right."""
    path = place.mirror / "state/openclaw.sqlite"
    data = bytearray(path.read_bytes())
    data[4096:4200] = b"\x99" * 104
    path.write_bytes(data)
    before = contents(place.state)
    with pytest.raises(VerificationFailed, match=r"state/openclaw\.sqlite: not a sound database"):
        place.restore()
    assert contents(place.state) == before


def test_a_manifest_that_leaves_the_state_directory_is_refused(place: Place) -> None:
    """A path with `..` in the manifest is refused on this machine."""
    entry = replace(manifest_of(place.mirror).entries[0], path="../escape", kind="directory")
    manifest = replace(manifest_of(place.mirror), entries=(entry,))
    with pytest.raises(VerificationFailed, match=r"the manifest lists \.\./escape, an invalid path"):
        restore(place.target, place.mirror, manifest, place.settings, place.talk)


def test_a_link_that_cannot_be_restored_is_reported(place: Place) -> None:
    """Everything else is restored, and each such link is listed."""
    manifest = manifest_of(place.mirror)
    for name in ("hooks/passwd", "hooks/self"):
        (place.mirror / name).unlink()
    done = restore(place.target, place.mirror, manifest, place.settings, place.talk)
    assert done.problems == ("hooks/passwd: missing", "hooks/self: missing")
    assert contents(place.state) == contents(place.mirror)


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


def test_a_gateway_that_does_not_get_ready_gets_the_old_state_back(place: Place, gateway: Process) -> None:
    """Everything is moved back, also what is excluded, and the gateway is started with it."""
    (place.state / "agents/main/x.failed").write_text("mine")
    before = contents(place.state)
    (place.mirror / "openclaw.json").write_text("bad")
    with pytest.raises(VerificationFailed, match=r"is not ready after 2 s \(HTTP status 503\); the old state is back"):
        with_gateway(place, gateway, 2)
    assert contents(place.state) == before
    assert gateway.calls == ["stop", "start", "stop", "start"]
    assert place.replaced == []
    assert (place.state / "agents/main/x.failed").read_text() == "mine"
    (place.mirror / "openclaw.json").write_text("good")
    assert with_gateway(place, gateway, PATIENCE).changed


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


def killed_in_mid_swap(place: Place) -> bool:
    """Restore, and kill the program in the guest while it swaps. Return whether it was killed before its end."""
    journal = place.home / ".openclaw-restore/journal.json"
    over = threading.Event()

    def kill() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError, ValueError):
                os.kill(json.loads(journal.read_text())["pid"], signal.SIGKILL)
                return

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        with pytest.raises(VerificationFailed, match=r"program failed in the guest with exit code 137"):
            place.restore()
    finally:
        over.set()
        thread.join()
    return journal.exists() and json.loads(journal.read_text())["phase"] == "swapping"


@pytest.mark.slow
def test_a_swap_that_was_killed_is_rolled_back_by_the_next_run(place: Place) -> None:
    """After kill -9 in mid-swap, the next restore first puts the old state back, and then works."""
    for number in range(2000):
        (place.state / f"old{number}").write_text("old")
        (place.mirror / f"new{number}").write_text("new")
    before = contents(place.state)
    journal = place.home / ".openclaw-restore/journal.json"
    # The run's own clean-up is the second safety net: here it fails, as if this machine had gone too.
    assert journal.parent.exists() is False
    killed = killed_in_mid_swap(place)
    if not killed:
        assert contents(place.state) == before
    done = place.restore()
    assert done.changed
    assert contents(place.state) == contents(place.mirror)
    assert contents(place.replaced[-1]) == before
