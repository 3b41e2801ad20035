"""From a guest to a good mirror, against a real sshd, rsync and SQLite."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from swarm.backup.mirror import Known
from swarm.errors import Refused
from tests.integration.guest_state import make_place
from tests.state import DATABASE, ODD_NAMES, add_rows, database, snapshot_of, writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Dirs
    from tests.integration.guest_state import Place
    from tests.sshd import Sshd


@pytest.fixture
def place(server: Sshd, keys: Path, dirs: Dirs) -> Iterator[Place]:
    """A guest with a state directory."""
    with make_place(server, keys, dirs.hosts.parent) as made:
        yield made


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


def test_an_excluded_database_is_excluded_with_its_wal(place: Place) -> None:
    """A -wal that came back without its database could damage a newer one. A directory of that name is no -wal."""
    place.settings = place.settings.model_copy(update={"exclude": (*place.settings.exclude, "index.db")})
    for name in ("index.db", "index.db-wal", "index.db-shm", "odd.db-wal/file"):
        (place.state / "memory" / name).parent.mkdir(parents=True, exist_ok=True)
        (place.state / "memory" / name).write_text("x", encoding="utf-8")
    place.own()
    place.backup()
    found = {path for path in snapshot_of(place.mirror) if path.startswith("memory/")}
    assert found == {"memory/odd.db-wal", "memory/odd.db-wal/file"}


def test_directories_may_leave_the_mirror_in_any_number(place: Place) -> None:
    """The limit on deletions, which counts directories too, allows all those that the dry run has shown."""
    place.settings = place.settings.model_copy(update={"max_loss": 100})
    for number in range(30):
        (place.state / f"media/{number}").mkdir(parents=True)
        (place.state / f"media/{number}/photo").write_text("x", encoding="utf-8")
    place.own()
    place.backup()
    for number in range(1, 30):
        shutil.rmtree(place.state / f"media/{number}")
    assert place.backup().deleted == 29
    assert [path.name for path in (place.mirror / "media").iterdir()] == ["0"]


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


@pytest.mark.parametrize("name", ["credentials", "identity", "cron", "agents"])
@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_folder_that_became_a_link_or_a_file_is_refused(place: Place, name: str, kind: str) -> None:
    """A top-level directory that was moved to another disk and linked, or replaced by a file, empties no mirror."""
    place.settings = place.settings.model_copy(update={"max_loss": 100})
    place.backup()
    before = snapshot_of(place.mirror)
    (place.state / name).rename(place.home / "moved")
    if kind == "link":
        (place.state / name).symlink_to(place.home / "moved")
    else:
        (place.state / name).write_text("no directory")
    loss = f"{name}/ is a file or a link instead of a directory in the guest; the mirror has "
    assert any(each.startswith(loss) for each in place.backup(plan_only=True).losses)
    with pytest.raises(Refused, match=loss):
        place.backup()
    assert snapshot_of(place.mirror) == before
    done = place.backup(force=True)
    assert any(loss in note for note in done.notes)
    assert not place.backup().changed


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


def test_a_configuration_that_is_a_link_is_refused(place: Place) -> None:
    """An openclaw.json that has become a link to elsewhere is named, and the mirror keeps the file."""
    place.backup()
    before = snapshot_of(place.mirror)
    (place.state / "openclaw.json").rename(place.home / "elsewhere.json")
    (place.state / "openclaw.json").symlink_to(place.home / "elsewhere.json")
    with pytest.raises(Refused, match=r"openclaw\.json is a link, and what .*; nothing was copied"):
        place.backup(force=True)
    assert snapshot_of(place.mirror) == before
    assert not place.unfinished.exists()


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


@pytest.mark.slow
def test_a_sparse_file_stays_sparse(place: Place) -> None:
    """A sparse file of 4 GiB takes no space in the mirror."""
    with (place.state / "memory.bin").open("wb") as file:
        file.truncate(4 << 30)
    place.backup()
    state = (place.mirror / "memory.bin").stat()
    assert state.st_size == 4 << 30
    assert state.st_blocks < 1000


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
    with pytest.raises(Refused, match="the database no longer has any tables"):
        place.backup()
    assert rows_in(place.mirror / DATABASE) == 50
