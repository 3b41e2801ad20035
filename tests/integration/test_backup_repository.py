"""Directories as destinations, the archives found in them, and the signature of a summary."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.backup import repository, signature
from swarm.backup.crypt import seal
from swarm.backup.directory import Directory
from swarm.backup.manifest import Entry, Manifest, Summary
from swarm.backup.naming import Name
from swarm.backup.probe import probe
from swarm.errors import RemoteError, Unfit, VerificationFailed
from swarm.inventory.backup import BackupSettings
from swarm.s3 import Bucket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Dirs

_NAME = Name("zap", datetime(2026, 11, 25, 3, tzinfo=UTC))


@pytest.fixture
def made(tmp_path: Path) -> Directory:
    """An empty directory that owns every name."""
    (tmp_path / "there").mkdir()
    return Directory(tmp_path / "there", owns=lambda _name: True)


def store(there: Directory, name: Name, host: str = "zap") -> Manifest:
    """Store the objects of an archive without its content. Return the manifest."""
    manifest = Manifest(host, "now", "agent", (Entry("file", "file", 0o600, 1, "agent", "agent", 1, "aa"),))
    sealed = seal(manifest.to_bytes(), None)
    digest = hashlib.sha256(sealed).hexdigest()
    there.put(name.summary, Summary(host, "now", 1, 1, 1, "aa", digest).to_bytes())
    there.put(name.manifest, sealed, fresh=True)
    return manifest


def test_a_file_appears_complete_or_not_at_all(made: Directory) -> None:
    """Before commit() there is no file. An aborted one leaves nothing behind."""
    with made.writer("archive") as writer:
        writer.write(b"first")
        assert made.objects() == []
        writer.write(b"second")
        writer.commit()
    assert b"".join(made.read("archive")) == b"firstsecond"
    with made.writer("aborted") as writer:
        writer.write(b"data")
    assert [each.name for each in made.objects()] == ["archive"]
    assert [path.name for path in made.path.iterdir()] == ["archive"]
    assert (made.path / "archive").stat().st_mode & 0o777 == 0o600


def test_a_fresh_file_never_replaces_another(made: Directory) -> None:
    """The commit mark is written only if there is none yet."""
    made.put("mark", b"first", fresh=True)
    with pytest.raises(RemoteError, match="mark exists already"):
        made.put("mark", b"second", fresh=True)
    assert b"".join(made.read("mark")) == b"first"
    assert [path.name for path in made.path.iterdir()] == ["mark"]


def test_a_missing_directory_is_not_created(tmp_path: Path) -> None:
    """A disk that is not mounted is an error: nothing is written to where it belongs."""
    there = Directory(tmp_path / "mnt" / "nas")
    for attempt in (there.check, lambda: there.put("name", b"data"), lambda: there.writer("name")):
        with pytest.raises(Unfit, match=f"{tmp_path}/mnt/nas does not exist") as caught:
            attempt()
        assert "mount" in str(caught.value.hint)
    assert not (tmp_path / "mnt").exists()


def test_the_default_directory_is_created(dirs: Dirs) -> None:
    """Without a destination in the host file, archives go to the project's own directory, which only we can enter."""
    dirs.backups.rmdir()
    [there] = repository.open_destinations("zap", BackupSettings())
    assert there.objects() == []
    there.put("name", b"data")
    assert (dirs.backups / "name").read_bytes() == b"data"
    assert dirs.backups.stat().st_mode & 0o777 == 0o700


def test_destinations_keep_the_order_of_the_host_file(tmp_path: Path) -> None:
    """S3 and directories stand side by side. The URL in messages names the server and no key."""
    settings = BackupSettings(
        destinations=("s3://zap/backups/", f"file://{tmp_path}"), endpoint="http://127.0.0.1:9000"
    )
    bucket, there = repository.open_destinations("zap", settings)
    assert isinstance(bucket, Bucket)
    assert bucket.url == "s3://zap/backups/ at http://127.0.0.1:9000"
    assert there.url == f"file://{tmp_path}"


def test_links_and_foreign_files_are_not_followed(made: Directory, tmp_path: Path) -> None:
    """A link in place of an archive is not read, and a foreign file is listed but left alone."""
    (tmp_path / "outside").write_text("secret")
    (made.path / "link").symlink_to(tmp_path / "outside")
    (made.path / "notes.txt").write_text("mine")
    assert [each.name for each in made.objects()] == ["notes.txt"]
    with pytest.raises(RemoteError):
        list(made.read("link"))


def test_a_file_that_goes_during_a_listing_is_left_out(
    made: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory is listed although the backup of another host removes an old archive from it meanwhile."""
    for name in ("gone", "here"):
        (made.path / name).touch()
    real = os.scandir

    @contextmanager
    def scandir(path: Path) -> Iterator[list[os.DirEntry[str]]]:
        with real(path) as entries:
            found = list(entries)
        (made.path / "gone").unlink()
        yield found

    monkeypatch.setattr(os, "scandir", scandir)
    assert [each.name for each in made.objects()] == ["here"]


def test_only_old_scratch_files_of_our_own_are_swept(made: Directory) -> None:
    """What a killed run has left goes after a day. Files of others stay."""
    old = time.time() - 90_000
    for name in (f".{_NAME.archive}.0123456789abcdef.part", ".foreign.part", "archive"):
        (made.path / name).touch()
        os.utime(made.path / name, (old, old))
    (made.path / ".new.0123456789abcdef.part").touch()
    assert Directory(made.path).sweep() == 0
    assert made.sweep() == 1
    assert sorted(path.name for path in made.path.iterdir()) == [
        ".foreign.part", ".new.0123456789abcdef.part", "archive",
    ]  # fmt: skip
    assert made.sweep(age=timedelta(0)) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
def test_a_full_disk_is_named(made: Directory) -> None:
    """A disk that fills up ends the write with its path, and leaves no partial file."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", made.path], check=False)
    if mounted.returncode:
        pytest.skip("can't mount a tmpfs here")
    try:
        with pytest.raises(Unfit, match=f"the disk of {made.path} is full"), made.writer("big") as writer:
            writer.write(bytes(3 << 20))
        assert list(made.path.iterdir()) == []
    finally:
        subprocess.run(["umount", made.path], check=True)


def test_only_committed_archives_of_this_host_are_found(made: Directory) -> None:
    """Without a manifest there is no archive; `zap-2` is another host; foreign names are ignored."""
    newer = Name("zap", _NAME.created + timedelta(days=1))
    store(made, newer)
    store(made, _NAME)
    store(made, Name("zap-2", _NAME.created), "zap-2")
    made.put(Name("zap", _NAME.created + timedelta(days=2)).archive, b"no manifest")
    made.put("zap-notes.txt", b"foreign")
    assert repository.archives(made, "zap") == [_NAME, newer]


def test_a_manifest_is_read_only_if_its_summary_vouches_for_it(made: Directory) -> None:
    """A manifest that lies, or belongs to another host, is refused."""
    manifest = store(made, _NAME)
    assert repository.read_manifest(made, _NAME, identity=None) == manifest
    made.put(_NAME.manifest, seal(b"{}", None))
    with pytest.raises(VerificationFailed, match="does not match its summary"):
        repository.read_manifest(made, _NAME, identity=None)
    other = Name("zap", _NAME.created + timedelta(days=1))
    store(made, other, "vim")
    with pytest.raises(VerificationFailed, match="belongs to another host"):
        repository.read_summary(made, other)


def test_a_huge_summary_is_not_read(made: Directory) -> None:
    """A summary is small; whatever is large under its name is refused."""
    made.put(_NAME.summary, bytes(2 << 20))
    with pytest.raises(RemoteError, match="is too large"):
        repository.read_summary(made, _NAME)


def test_a_signature_belongs_to_one_text_and_one_key(dirs: Dirs) -> None:
    """A changed summary, a cut signature and another key all fail. Both halves stay with swarm."""
    signed = signature.sign(b"summary")
    signature.verify(b"summary", signed)
    assert ssh.own_key().is_relative_to(dirs.state)
    other = ssh.keypair("other")[1]
    for data, given, key in (
        (b"summarY", signed, None),
        (b"summary", signed[:-80], None),
        (b"summary", b"", None),
        (b"summary", signed, other),
    ):
        with pytest.raises(VerificationFailed, match="signature is not valid"):
            signature.verify(data, given, public_key=key)


def test_the_probe_of_a_directory(made: Directory, tmp_path: Path) -> None:
    """A usable directory is reported as good and left empty; a missing one is one finding."""
    assert all(ok for _, ok, _ in probe(made))
    assert list(made.path.iterdir()) == []
    [(what, ok, detail)] = probe(Directory(tmp_path / "missing"))
    assert (what, ok) == ("access", False)
    assert "does not exist" in detail
