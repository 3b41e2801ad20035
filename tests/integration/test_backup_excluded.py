"""A database that is excluded from backups: neither a backup nor a restore separates it from its -wal."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest

from swarm.inventory.backup import BackupSettings
from tests.integration.restored import Place, make_place

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.ssh.guest import Guest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other accounts")


@pytest.fixture
def place(guest: Guest, tmp_path: Path) -> Place:
    """A state directory with old content, and a mirror with new content."""
    return make_place(guest, tmp_path)


def killed(path: Path, *rows: str) -> None:
    """Make a database as a program that was killed leaves it: the rows are in its -wal alone."""
    made = path.with_name("made")
    with contextlib.closing(sqlite3.connect(made)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE seen (name)")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.executemany("INSERT INTO seen VALUES (?)", [(row,) for row in rows])
        database.commit()
        for suffix in ("", "-wal"):
            shutil.copy(f"{made}{suffix}", f"{path}{suffix}")
    made.unlink()


@pytest.mark.parametrize(("pattern", "saved"), [("index.db*", False), ("index.db", False), ("*.db", True)])
def test_a_restore_keeps_the_rows_of_an_excluded_database(place: Place, pattern: str, *, saved: bool) -> None:
    """It stays with all its rows, also those in its -wal, and also if an older backup has a -wal of it."""
    place.settings = BackupSettings(exclude=(pattern,))
    path = place.state / "agents/main/index.db"
    if saved:
        killed(place.mirror / "agents/main/index.db", "of the backup", "and more")
        (place.mirror / "agents/main/index.db").unlink()
    killed(path, "new")
    place.restore()
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT name FROM seen").fetchall() == [("new",)]
    assert not place.restore(plan_only=True).changes
