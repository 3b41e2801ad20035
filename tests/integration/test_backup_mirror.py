"""From a guest to a good mirror, against a real sshd, rsync and SQLite."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from swarm.backup.busy import hold_host
from swarm.backup.mirror import Known
from swarm.errors import CommandFailed, Refused, Unfit, Unreachable
from swarm.paths import ROOT
from tests.integration.guest_state import make_place, own_server
from tests.state import DATABASE, ODD_NAMES, add_rows, database, snapshot_of, writing

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


def rows_in(path: Path) -> int:
    """Return the rows of the transcript in a database of the mirror."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM transcript").fetchone()[0])


def test_the_first_backup_copies_what_is_included(place: Place) -> None:
    """Files, modes, times and databases arrive. What is excluded, sidecars and backups of the configuration do not."""
    (place.state / "link").symlink_to("/etc/shadow")
    os.link(place.state / ".env", place.state / "hard")
    done = place.backup()
    assert done.changed
    found = snapshot_of(place.mirror)
    assert found["link"] == ("link", "/etc/shadow")
    assert {"openclaw.json", ".env", DATABASE, "agents/main/sessions/0001.jsonl"} <= found.keys()
    assert not {"workspace", "logs", "cache", "openclaw.json.bak", f"{DATABASE}-wal"} & found.keys()
    assert (place.mirror / "hard").samefile(place.mirror / ".env")
    for name in ("openclaw.json", "agents/main/sessions/0001.jsonl", "credentials", DATABASE):
        live, copy = (place.state / name).stat(), (place.mirror / name).stat()
        assert (live.st_mode, live.st_mtime_ns) == (copy.st_mode, copy.st_mtime_ns), name
    assert done.databases[DATABASE]["transcript"] == 50
    assert done.versions == {"openclaw": "2026.11.1"}
    assert (done.owners.user, done.owners.group) == (place.user, "1501")
    assert place.mirror.stat().st_mode & 0o777 == 0o700


def test_an_unchanged_guest_transfers_nothing(place: Place) -> None:
    """The second backup changes nothing, and takes no snapshot."""
    first = place.backup()
    before = snapshot_of(place.mirror)
    second = place.backup()
    assert not second.changed
    assert (second.transferred, second.deleted) == (0, 0)
    assert second.databases == first.databases
    assert second.snapshots == first.snapshots
    assert snapshot_of(place.mirror) == before


def test_owners_are_reported_by_name(place: Place) -> None:
    """Only what belongs to somebody else than the directory itself is listed, by name or by number."""
    os.chown(place.state / ".env", 0, 0)
    os.chown(place.state / "cron", 4711, 4712)
    owners = place.backup().owners
    assert owners.others == {".env": ("root", "root"), "cron": ("4711", "4712")}
    assert owners.of("openclaw.json") == (place.user, "1501")


def test_a_change_in_the_same_second_and_size_is_noticed(place: Place) -> None:
    """A file whose modification time differs only in nanoseconds is copied."""
    path = place.state / "agents/main/sessions/0001.jsonl"
    os.utime(path, ns=(10**18 + 1, 10**18 + 1))
    place.backup()
    changed = path.read_text(encoding="utf-8").replace("1", "7")
    path.write_text(changed, encoding="utf-8")
    os.utime(path, ns=(10**18 + 2, 10**18 + 2))
    assert place.backup().changed
    assert (place.mirror / "agents/main/sessions/0001.jsonl").read_text(encoding="utf-8") == changed


def test_what_is_deleted_or_newly_excluded_leaves_the_mirror(place: Place) -> None:
    """A file that is gone, or that the settings exclude from now on, is deleted."""
    place.backup()
    (place.state / "agents/main/sessions/0001.jsonl").unlink()
    place.settings = place.settings.model_copy(update={"exclude": (*place.settings.exclude, "/cron/")})
    done = place.backup()
    assert done.deleted == 2
    assert not {"agents/main/sessions/0001.jsonl", "cron"} & snapshot_of(place.mirror).keys()


def test_rows_in_the_wal_arrive(place: Place) -> None:
    """Every row that a busy writer committed before the backup is in the mirror; later ones may be."""
    with writing(place.state / DATABASE) as connection:
        place.own()
        add_rows(connection, 163)
        stop = threading.Event()

        def write() -> None:
            while not stop.wait(0.002):
                add_rows(connection, 1)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            done = place.backup()
        finally:
            stop.set()
            writer.join()
    assert done.databases[DATABASE]["transcript"] == rows_in(place.mirror / DATABASE) >= 213


def test_an_empty_folder_is_refused(place: Place) -> None:
    """With agents/ empty in the guest the backup is refused, the loss is named, and the mirror is unchanged."""
    place.backup()
    before = snapshot_of(place.mirror)
    shutil.rmtree(place.state / "agents")
    (place.state / "agents").mkdir()
    with pytest.raises(
        Refused, match=r"agents/ is empty in the guest; the mirror has \d+ files in it"
    ) as caught:
        place.backup()
    assert "--force" in str(caught.value.hint)
    assert snapshot_of(place.mirror) == before
    done = place.backup(force=True)
    assert "agents/main" not in snapshot_of(place.mirror)
    assert any("agents/ is empty" in note for note in done.notes)


def test_a_fresh_guest_is_refused(place: Place) -> None:
    """A rebuilt guest without state is refused, even by force, and the mirror is unchanged."""
    place.backup()
    before = snapshot_of(place.mirror)
    shutil.rmtree(place.state)
    with pytest.raises(Refused, match="the guest has no state directory"):
        place.backup(force=True)
    place.state.mkdir()
    place.own()
    with pytest.raises(Refused, match=r"openclaw\.json is missing in the guest"):
        place.backup(force=True)
    assert snapshot_of(place.mirror) == before


def test_too_many_deletions_are_refused(place: Place) -> None:
    """If more files would go than the settings allow, their number is named."""
    place.backup()
    for number in range(15):
        (place.state / f"agents/main/sessions/{number:04d}.jsonl").unlink()
    with pytest.raises(Refused, match=r"15 of the mirror's \d+ files would be deleted; the limit is 25 %"):
        place.backup()


@pytest.mark.parametrize("text", ["", "{", '{"gateway": {"port": 1', "{}", "{ // comment\n", "\0" * 100])
def test_a_broken_configuration_is_refused(place: Place, text: str) -> None:
    """An openclaw.json that is empty, cut off or overwritten is refused."""
    (place.state / "openclaw.json").write_text(text, encoding="utf-8")
    with pytest.raises(Refused, match=r"openclaw\.json can't be read: it.*; nothing was copied"):
        place.backup()


@pytest.mark.parametrize("text", ['{gateway: {port: 1,},} // "{', "/* { */ {'a': \"}\"}", '{"a": 1}'])
def test_a_configuration_in_json5_is_accepted(place: Place, text: str) -> None:
    """Comments, trailing commas and unquoted keys are no error."""
    (place.state / "openclaw.json").write_text(text, encoding="utf-8")
    assert place.backup().changed


def test_another_machine_is_refused(place: Place) -> None:
    """A guest with another hostname is refused by both names."""
    place.hostname = "elsewhere"
    with pytest.raises(Refused, match=r"hostname is .*, expected elsewhere; nothing was copied"):
        place.backup()
    assert not snapshot_of(place.mirror)


def test_odd_names_survive(place: Place) -> None:
    """Names that are not UTF-8, with newlines, escapes, wildcards or 255 bytes arrive, also those of databases."""
    for name in ODD_NAMES:
        path = place.state / "odd" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name, encoding="utf-8", errors="surrogateescape")
    for name in ODD_NAMES[:-1]:
        database(place.state / "odd" / f"{name}.sqlite", 2)
    place.own()
    done = place.backup()
    found = snapshot_of(place.mirror)
    assert {f"odd/{name}" for name in ODD_NAMES} <= found.keys()
    assert {f"odd/{name}.sqlite" for name in ODD_NAMES[:-1]} <= found.keys() & done.databases.keys()
    assert not place.backup().changed


def test_files_that_are_only_named_like_databases_arrive(place: Place) -> None:
    """A text, a link and a directory named *.db are copied as what they are."""
    (place.state / "text.db").write_text("text", encoding="utf-8")
    (place.state / "link.sqlite").symlink_to("text.db")
    (place.state / "folder.db").mkdir()
    (place.state / "folder.db/file").write_text("in it", encoding="utf-8")
    place.backup()
    found = snapshot_of(place.mirror)
    assert (found["text.db"], found["folder.db/file"]) == (b"text", b"in it")
    assert found["link.sqlite"] == ("link", "text.db")
    assert not place.backup().changed


def test_sockets_are_skipped(place: Place) -> None:
    """A socket and a pipe neither arrive nor fail the backup."""
    os.mkfifo(place.state / "pipe")
    place.backup()
    assert "pipe" not in snapshot_of(place.mirror)
    assert not place.backup().changed


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


def test_a_plan_writes_nothing(place: Place) -> None:
    """A plan lists changes and losses; the mirror and the guest stay as they are."""
    assert any(line.startswith("add openclaw.json") for line in place.backup(plan_only=True).plan)
    assert not place.mirror.exists()
    assert not (place.home / ".swarm-backup").exists()
    place.backup()
    before = snapshot_of(place.mirror)
    shutil.rmtree(place.state / "credentials")
    (place.state / "new\x1b").write_text("x", encoding="utf-8")
    done = place.backup(plan_only=True)
    assert done.changed
    assert {"delete credentials/telegram.json"} <= set(done.plan)
    assert not any("\x1b" in line for line in done.plan)
    assert done.losses == ("credentials/ is missing in the guest; the mirror has 1 file in it",)
    assert snapshot_of(place.mirror) == before


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
    place.backup()
    before = snapshot_of(place.mirror)
    # It claims to be sparse, so that the check beforehand lets it pass.
    with (place.state / "sparse").open("wb") as file:
        file.truncate(64 << 20)
    (place.state / "large").write_bytes(os.urandom(6 << 20))
    (place.state / ".env").write_text("NEW=1\n", encoding="utf-8")
    with pytest.raises(Unfit, match=f"{small_disk}/zap: the disk is full"):
        place.backup()
    assert snapshot_of(place.mirror) == before


@pytest.mark.slow
def test_a_sparse_file_stays_sparse(place: Place) -> None:
    """A sparse file of 4 GiB takes no space in the mirror."""
    with (place.state / "memory.bin").open("wb") as file:
        file.truncate(4 << 30)
    place.backup()
    state = (place.mirror / "memory.bin").stat()
    assert state.st_size == 4 << 30
    assert state.st_blocks < 1000


def test_two_backups_at_once_are_refused(place: Place) -> None:
    """While one backup holds the host's lock, another is refused and says so."""
    with hold_host(place.host), pytest.raises(Refused, match="another backup of zap is running"):
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
    with pytest.raises(Refused, match="another backup of zap is running"):
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


def test_a_mirror_that_was_removed_is_made_again(place: Place) -> None:
    """What the last backup recorded is not trusted if the mirror's databases are gone."""
    place.backup()
    shutil.rmtree(place.mirror)
    assert place.backup().changed
    assert rows_in(place.mirror / DATABASE) == 50


def test_without_a_record_a_database_is_still_guarded(place: Place) -> None:
    """If the record is lost, an empty database still does not replace one with content."""
    place.backup()
    place.known = Known()
    (place.state / DATABASE).write_bytes(b"")
    for sidecar in ("-wal", "-shm"):
        (place.state / f"{DATABASE}{sidecar}").unlink(missing_ok=True)
    with pytest.raises(Refused, match="the database has no tables any more"):
        place.backup()
    assert rows_in(place.mirror / DATABASE) == 50
