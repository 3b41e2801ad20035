"""Snapshots of the databases in a guest: consistent, checked, compared with the last ones, and cleaned up."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from swarm.errors import CommandFailed, Refused, VerificationFailed
from tests.integration.guest_state import make_place, own_server
from tests.state import DATABASE, add_rows, database, snapshot_of, writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Dirs
    from tests.integration.guest_state import Place
    from tests.sshd import Sshd

OTHER = "state/openclaw.sqlite"


@pytest.fixture
def place(server: Sshd, keys: Path, dirs: Dirs) -> Iterator[Place]:
    """A guest with a state directory that has been backed up."""
    with make_place(server, keys, dirs.hosts.parent) as made:
        made.backup()
        yield made


def execute(path: Path, *statements: str) -> None:
    """Change a database."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def refused(place: Place, message: str) -> None:
    """Check that the backup is refused with this message, and that the mirror stays as it is."""
    before = snapshot_of(place.mirror)
    with pytest.raises(Refused, match=message):
        place.backup()
    assert snapshot_of(place.mirror) == before


def test_a_database_that_became_empty_is_refused(place: Place) -> None:
    """A file of zero bytes does not replace a database with content."""
    (place.state / DATABASE).write_bytes(b"")
    for sidecar in ("-wal", "-shm"):
        (place.state / f"{DATABASE}{sidecar}").unlink(missing_ok=True)
    refused(place, f"{DATABASE}: the database no longer has any tables")
    place.backup(force=True)
    assert (place.mirror / DATABASE).stat().st_size == 0


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM transcript WHERE id > 20", "the database has lost 30 of 50 rows; the limit is 25 %"),
        ("DROP TABLE transcript", "the database has lost the table transcript"),
    ],
)
def test_lost_rows_and_tables_are_refused(place: Place, statement: str, message: str) -> None:
    """A database that has lost rows or a table since the last backup is named."""
    execute(place.state / DATABASE, statement)
    place.own()
    refused(place, f"{DATABASE}: {message}")


def test_a_missing_database_is_refused(place: Place) -> None:
    """A database that has vanished is named; by force it leaves the mirror."""
    for path in (place.state / "state").iterdir():
        path.unlink()
    (place.state / "state/other").write_text("x", encoding="utf-8")
    refused(place, f"{OTHER}: the database is missing in the guest")
    place.backup(force=True)
    assert not (place.mirror / OTHER).exists()


def test_a_damaged_database_fails_by_name(place: Place) -> None:
    """A database that integrity_check rejects fails the backup by name, and does not replace the good one."""
    execute(place.state / DATABASE, "PRAGMA journal_mode=DELETE", "CREATE INDEX i ON transcript (text)")
    data = bytearray((place.state / DATABASE).read_bytes())
    at = data.rindex(b"row 7row 7")
    data[at : at + 10] = b"flipped!!!"
    (place.state / DATABASE).write_bytes(data)
    place.own()
    before = snapshot_of(place.mirror)
    with pytest.raises(VerificationFailed, match=f"a database in the guest is damaged.*\n  {DATABASE}: "):
        place.backup()
    assert snapshot_of(place.mirror) == before
    assert any(DATABASE in note for note in place.backup(force=True).notes)


def test_a_file_with_only_the_header_fails_by_name(place: Place) -> None:
    """A file that starts as a database and continues as garbage fails by name."""
    (place.state / "broken.sqlite").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    place.own()
    with pytest.raises(VerificationFailed, match=r"broken\.sqlite: "):
        place.backup()


def test_only_changed_databases_are_copied(place: Place) -> None:
    """A commit that is only in the -wal file is noticed; the other database is not copied again."""
    with writing(place.state / DATABASE) as connection:
        place.own()
        place.backup()
        add_rows(connection, 1)
        done = place.backup()
    assert done.transferred == 1
    assert done.databases[DATABASE]["transcript"] == 51
    assert done.databases[OTHER]["transcript"] == 3
    assert {DATABASE, OTHER} <= snapshot_of(place.mirror).keys()


def test_no_file_of_root_appears(place: Place) -> None:
    """Sidecars that reading a database creates belong to the account, as does everything else."""
    database(place.state / DATABASE, 10)
    place.own()
    place.backup()
    for path in (place.home, *place.home.rglob("*")):
        assert path.lstat().st_uid == place.ids[0], path


def test_the_staging_area_is_private_and_removed(place: Place) -> None:
    """Snapshots are removed after the backup, also those of a killed one, and after a refusal."""
    staging = place.home / ".swarm-backup/snapshots"
    (staging / "left/over").mkdir(parents=True)
    (staging / "left/over/x.sqlite").write_bytes(b"old")
    place.own()
    assert (place.home / ".swarm-backup").stat().st_mode & 0o777 == 0o700
    database(place.state / DATABASE, 10)
    place.own()
    place.backup()
    assert not staging.exists()
    assert "left" not in snapshot_of(place.mirror)
    execute(place.state / DATABASE, "DROP TABLE transcript")
    place.own()
    refused(place, "has lost the table")
    assert not staging.exists()


def test_databases_without_a_suffix_are_found(place: Place) -> None:
    """A database with any name is recognized by its sidecar, one without sidecar by its suffix."""
    (place.state / "memory").mkdir()
    with writing(place.state / "memory/index") as connection:
        connection.execute("CREATE TABLE t (x)")
        database(place.state / "memory/b.db3", 1)
        place.own()
        done = place.backup()
    assert done.databases["memory/index"] == {"t": 0}
    assert done.databases["memory/b.db3"]["transcript"] == 1
    assert not any(name.endswith(("-wal", "-shm")) for name in snapshot_of(place.mirror))


def test_a_database_without_a_suffix_is_known_again(place: Place) -> None:
    """A database that was recognized by its sidecar is still one after its last program has closed it."""
    path = place.state / "memory/index"
    path.parent.mkdir()
    with writing(path) as connection:
        connection.execute("CREATE TABLE t (x)")
        place.own()
        before = place.backup().databases["memory/index"]
    assert not path.with_name("index-wal").exists()
    assert place.backup().databases["memory/index"] == before
    assert "memory/index" in place.backup().snapshots


def test_full_text_tables_are_copied(place: Place) -> None:
    """Virtual tables arrive; the tables behind them are counted."""
    path = place.state / "memory/text.sqlite"
    path.parent.mkdir()
    execute(path, "CREATE VIRTUAL TABLE f USING fts5(body)", "INSERT INTO f VALUES ('lobster')")
    place.own()
    tables = place.backup().databases["memory/text.sqlite"]
    assert "f" not in tables
    assert tables["f_content"] == 1
    with closing(
        sqlite3.connect(f"file:{place.mirror}/memory/text.sqlite?immutable=1", uri=True)
    ) as connection:
        assert connection.execute("SELECT count(*) FROM f WHERE f MATCH 'lobster'").fetchone() == (1,)


def test_an_idle_backup_leaves_the_databases_alone(place: Place) -> None:
    """Reading a database changes neither its content nor its times."""
    path = place.state / DATABASE
    os.utime(path, ns=(10**18, 10**18))
    before = path.read_bytes()
    place.backup()
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, 10**18)


PATTERNS = (
    "/one/",
    "two",
    "*.bak*",
    "a/b/",
    "/x/**/deep",
    "q?z.*",
    "[mn]o.sqlite",
    "[!a-z]x.sqlite",
    "/tail/***",
    "esc\\*[a].sqlite",
    "p/*/r.sqlite",
    "**/any/",
)
PATHS = (
    "one/a.sqlite",
    "sub/one/a.sqlite",
    "two/a.sqlite",
    "sub/two/b.sqlite",
    "twos/a.sqlite",
    "a.bak.sqlite",
    "a/b/a.sqlite",
    "sub/a/b/a.sqlite",
    "xa/b/a.sqlite",
    "x/1/2/deep/a.sqlite",
    "x/deep/a.sqlite",
    "sub/x/1/deep/a.sqlite",
    "qaz.sqlite",
    "qaaz.sqlite",
    "mo.sqlite",
    "oo.sqlite",
    "1x.sqlite",
    "ax.sqlite",
    "tail/a.sqlite",
    "sub/tail/a.sqlite",
    "esc*a.sqlite",
    "escxa.sqlite",
    "p/q/r.sqlite",
    "p/q/q/r.sqlite",
    "sub/p/q/r.sqlite",
    "any/a.sqlite",
    "sub/any/a.sqlite",
)


@pytest.mark.slow
def test_patterns_mean_what_they_mean_to_rsync(place: Place, tmp_path: Path) -> None:
    """The guest leaves out exactly the databases that rsync would leave out."""
    for path in PATHS:
        database(place.state / "memory" / path, 0)
        database(place.state / path, 0)
    place.own()
    place.settings = place.settings.model_copy(update={"exclude": PATTERNS})
    options = [f"--exclude={pattern}" for pattern in (*PATTERNS, "*-wal", "*-shm")]
    subprocess.run(["rsync", "-r", *options, f"{place.state}/", f"{tmp_path}/copy"], check=True)
    expected = {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*.sqlite")}
    assert {path for path in place.backup(force=True).databases if path.endswith(".sqlite")} == expected
    assert {path for path in snapshot_of(place.mirror) if path.endswith(".sqlite")} == expected


def test_a_full_disk_in_the_guest_is_named(dirs: Dirs, keys: Path) -> None:
    """If the guest has no space for the snapshots, the guest and the directory are named."""
    base = dirs.hosts.parent
    staging = base / "home/.swarm-backup"
    staging.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,uid=1501,mode=0700", "tmpfs", str(staging)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a disk needs root")
    try:
        with own_server(base / "sshd", keys) as server, make_place(server, keys, base) as place:
            message = f"zap: the guest's disk is full: {staging}/snapshots needs .*, .* are free"
            with pytest.raises(CommandFailed, match=message):
                place.backup()
            assert not snapshot_of(place.mirror)
    finally:
        subprocess.run(["umount", str(staging)], check=True)
