"""Verification and restore of archives that others can reach: what is recorded stays, what was replaced is found."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from swarm.backup import record
from swarm.backup.busy import hold_host
from tests.integration.stored import HOST, archived, catalog, settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Dirs

_WHEN = datetime(2026, 11, 25, 3, tzinfo=UTC)
_LATER = _WHEN + timedelta(days=1)


def backed_up() -> None:
    """Change the record as a backup does that makes an archive and then finds the guest changed."""
    known = record.load(HOST)
    known.dirty, known.succeeded = True, 5.0
    known.note("zap-20261127t030000z", "ab", "file:///elsewhere", "content")
    record.save(HOST, known)


def test_a_verification_keeps_what_a_backup_records_meanwhile(dirs: Dirs, tmp_path: Path) -> None:
    """A backup that ends during a long verification loses nothing of its record."""
    to = settings(dirs.backups)
    name = archived(tmp_path, to, _WHEN, {"file": "text"}, verified=False)
    found = catalog(to)

    def progress(_: int) -> None:
        with hold_host(HOST):
            backed_up()

    assert found.check(*found.find(str(name)), progress) == "content"
    known = record.load(HOST)
    assert known.archives.keys() == {str(name), "zap-20261127t030000z"}
    assert (known.dirty, known.succeeded) == (True, 5.0)


def test_a_verification_waits_for_a_backup(dirs: Dirs, tmp_path: Path) -> None:
    """A result is recorded only when a backup that runs has ended and written its own."""
    to = settings(dirs.backups)
    name = archived(tmp_path, to, _WHEN, {"file": "text"}, verified=False)
    held, checking = threading.Event(), threading.Event()

    def back_up() -> None:
        with hold_host(HOST):
            held.set()
            checking.wait(60)
            backed_up()

    thread = threading.Thread(target=back_up)
    thread.start()
    assert held.wait(60)
    found = catalog(to)
    found.check(*found.find(str(name)), lambda _: checking.set())
    thread.join()
    known = record.load(HOST)
    assert known.archives.keys() == {str(name), "zap-20261127t030000z"}
    assert known.dirty


def test_a_drill_verifies_under_its_own_lock(dirs: Dirs, tmp_path: Path) -> None:
    """Whoever holds the host's lock already can verify and record without a second one."""
    to = settings(dirs.backups)
    name = archived(tmp_path, to, _WHEN, {"file": "text"}, verified=False)
    with hold_host(HOST):
        found = catalog(to)
        found.check(*found.find(str(name)), locked=True)
    assert record.load(HOST).archives.keys() == {str(name)}
