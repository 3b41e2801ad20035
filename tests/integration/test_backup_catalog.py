"""Verification and restore of archives that others can reach: what is recorded stays, what was replaced is found."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.backup import record
from swarm.backup.busy import hold_host
from swarm.backup.crypt import seal
from swarm.backup.manifest import Sums
from swarm.backup.recover import from_archive
from swarm.backup.repository import read_manifest, read_summary
from swarm.console import Talk, screen
from swarm.errors import RemoteError, UsageError, VerificationFailed
from tests.integration.archives import make_identity, public
from tests.integration.stored import HOST, archived, catalog, settings, swapped

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.backup.catalog import Catalog
    from swarm.backup.naming import Name
    from swarm.s3 import Destination
    from tests.conftest import Dirs

_WHEN = datetime(2026, 11, 25, 3, tzinfo=UTC)
_LATER = _WHEN + timedelta(days=1)


def backed_up() -> None:
    """Change the record as a backup does that makes an archive and then finds the guest changed."""
    known = record.load(HOST)
    known.dirty, known.succeeded = True, 5.0
    known.note("zap-20261127t030000z", Sums("ab", "cd"), "file:///elsewhere", "content")
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


@pytest.mark.usefixtures("dirs")
def test_outages_that_take_turns_hide_nothing(tmp_path: Path) -> None:
    """A destination that has failed before, and answers now, is no outage."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    name = archived(tmp_path, settings(first), _WHEN, {"file": "text"})
    found = catalog(settings(first, second))
    for gone in (second, first):
        gone.rename(tmp_path / "away")
        assert [each for _, each in found.names()] == ([name] if gone == second else [])
        assert list(found.errors) == [f"file://{gone}"]
        (tmp_path / "away").rename(gone)


def test_a_drill_verifies_under_its_own_lock(dirs: Dirs, tmp_path: Path) -> None:
    """Whoever holds the host's lock already can verify and record without a second one."""
    to = settings(dirs.backups)
    name = archived(tmp_path, to, _WHEN, {"file": "text"}, verified=False)
    with hold_host(HOST):
        found = catalog(to)
        found.check(*found.find(str(name)), locked=True)
    assert record.load(HOST).archives.keys() == {str(name)}


def test_a_replaced_archive_is_not_restored(dirs: Dirs, tmp_path: Path) -> None:
    """A restore refuses an archive that somebody replaced together with its summary and manifest."""
    to = settings(dirs.backups)
    name = archived(tmp_path, to, _WHEN, {"file": "good"})
    other = archived(tmp_path, to, _LATER, {"file": "evil"}, verified=False)
    swapped(dirs.backups, name, other)
    with (
        pytest.raises(VerificationFailed, match="are not those that this machine has recorded"),
        from_archive(catalog(to), str(name), Talk(screen(), quiet=True)),
    ):
        pytest.fail("the archive was unpacked")


@pytest.mark.usefixtures("dirs")
@pytest.mark.parametrize("part", ["archive", "manifest", "summary"])
def test_a_damaged_copy_does_not_stand_in_the_way_of_a_good_one(
    tmp_path: Path, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """If one destination's copy is damaged, a restore says so and takes that of the next destination."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    name = archived(tmp_path, settings(first), _WHEN, {"file": "good"})
    shutil.copytree(first, second)
    (first / getattr(name, part)).write_bytes(b"damaged")
    with from_archive(catalog(settings(first, second)), str(name), Talk(screen(), quiet=True)) as origin:
        assert (origin.tree / "file").read_text(encoding="utf-8") == "good"
        assert str(second) in origin.what
    assert f"thecopyatfile://{second}istriednext" in "".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("dirs")
def test_the_latest_archive_may_be_where_nobody_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A restore of the latest archive names the destination that did not answer, and so does the search for another."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    archived(tmp_path, settings(first), _WHEN, {"file": "older"})
    found = catalog(settings(first, second))
    with from_archive(found, "latest", Talk(screen(), quiet=True)) as origin:
        assert (origin.tree / "file").read_text(encoding="utf-8") == "older"
    err = "".join(capsys.readouterr().err.split())
    assert f"file://{second}didnotanswer,andmayhaveanewerarchive" in err
    with pytest.raises(UsageError, match=f"no archive 'zap-2'.*; file://{second} did not answer"):
        found.find("zap-2")


def forged(folder: Path, found: Catalog, name: Name) -> Destination:
    """Replace a manifest, and its checksum in the summary. Return the destination that holds the archive."""
    destination, _ = found.find(str(name))
    summary = read_summary(destination, name)
    manifest = read_manifest(destination, name, identity=None)
    sealed = seal(dataclasses.replace(manifest, databases={"memory.sqlite": {"lost": 0}}).to_bytes(), None)
    (folder / name.manifest).write_bytes(sealed)
    changed = dataclasses.replace(summary, manifest_sha256=hashlib.sha256(sealed).hexdigest())
    (folder / name.summary).write_bytes(changed.to_bytes())
    return destination


def test_a_replaced_manifest_is_refused(dirs: Dirs, tmp_path: Path) -> None:
    """An archive whose manifest somebody replaced, together with its checksum in the summary, is refused."""
    to = settings(dirs.backups)
    name, found = archived(tmp_path, to, _WHEN, {"file": "good"}), catalog(to)
    destination = forged(dirs.backups, found, name)
    with pytest.raises(VerificationFailed, match="are not those that this machine has recorded"):
        found.authentic(destination, name)


def test_the_signature_vouches_for_a_manifest_without_a_recorded_checksum(dirs: Dirs, tmp_path: Path) -> None:
    """An archive that an earlier version recorded, without its manifest's checksum, is known by its signature."""
    to = settings(dirs.backups)
    name, found = archived(tmp_path, to, _WHEN, {"file": "good"}), catalog(to)
    del found.record.archives[str(name)]["manifest"]
    found.authentic(found.find(str(name))[0], name)
    assert found.notes == []
    found.authentic(forged(dirs.backups, found, name), name)
    assert found.notes == [f"{name}: another machine made this archive, or its summary was changed"]


def test_a_replaced_archive_below_its_own_summary_is_not_restored(dirs: Dirs, tmp_path: Path) -> None:
    """A restore refuses an encrypted archive whose bytes are not those that the summary vouches for."""
    identity = make_identity(tmp_path / "key")
    to = settings(dirs.backups, recipient=public(identity))
    name = archived(tmp_path, to, _WHEN, {"file": "good"})
    other = archived(tmp_path, to, _LATER, {"file": "good"}, verified=False)  # the same tree, encrypted again
    (dirs.backups / other.archive).replace(dirs.backups / name.archive)
    with (
        pytest.raises(VerificationFailed, match="the archive's checksum differs from the summary's"),
        from_archive(catalog(to, identity), str(name), Talk(screen(), quiet=True)),
    ):
        pytest.fail("the archive was unpacked")


def test_a_new_machine_restores_and_says_who_did_not_sign(
    dirs: Dirs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a record the signature decides: our own is silent, and one of another machine is shown."""
    to = settings(dirs.backups)
    name = archived(tmp_path, to, _WHEN, {"file": "good"}, verified=False)
    for key, shown in ((ssh.own_key(), False), (None, True)):
        if key is None:
            shutil.rmtree(ssh.own_key().parent)  # as on a machine that starts anew
        with from_archive(catalog(to), "latest", Talk(screen(), quiet=True)) as origin:
            assert (origin.tree / "file").read_text(encoding="utf-8") == "good"
        err = capsys.readouterr().err
        assert (f"{name}: another machine made this archive" in err) is shown


def test_a_huge_manifest_is_not_read_to_its_end(dirs: Dirs, tmp_path: Path) -> None:
    """A verification without the identity gives up on a manifest that is larger than any of ours."""
    to = settings(dirs.backups, recipient=public(make_identity(tmp_path / "key")))
    name = archived(tmp_path, to, _WHEN, {"file": "text"})
    with (dirs.backups / name.manifest).open("r+b") as file:
        file.truncate(300 << 20)
    found = catalog(to)
    with pytest.raises(RemoteError, match=r"manifest\.json\.zst\.age in .* is too large"):
        found.check(*found.find(str(name)))


def test_a_huge_signature_is_no_signature(dirs: Dirs, tmp_path: Path) -> None:
    """A signature that is larger than any of ours is not read, and the archive counts as one of another machine."""
    to = settings(dirs.backups)
    name = archived(tmp_path, to, _WHEN, {"file": "text"}, verified=False)
    with (dirs.backups / name.signature).open("ab") as file:
        file.write(b"\n" * (2 << 20))
    found = catalog(to)
    found.check(*found.find(str(name)))
    assert found.notes == [f"{name}: another machine made this archive, or its summary was changed"]
