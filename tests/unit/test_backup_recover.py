"""What is unpacked for a restore or a drill goes afterwards, or is named."""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from swarm.backup import record
from swarm.backup.catalog import Catalog
from swarm.backup.drill import Options, discard, drill
from swarm.backup.manifest import Manifest
from swarm.backup.naming import Name
from swarm.backup.owners import Owners
from swarm.backup.recover import from_archive
from swarm.backup.repository import open_destinations
from swarm.backup.store import Place, store
from swarm.console import Talk, screen
from swarm.errors import Refused, Unfit
from swarm.inventory import BackupSettings
from swarm.vm import throwaway
from tests import samples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from swarm.backup.archive import Packed
    from tests.conftest import Dirs

NAME = Name("zap", datetime(2026, 11, 25, 3, tzinfo=UTC))


def locked(tree: Path) -> Path:
    """Make a directory with a file that its owner may not remove, within another one that he may not even list."""
    (tree / "closed/locked").mkdir(parents=True)
    (tree / "closed/locked/token").write_text("secret", encoding="utf-8")
    (tree / "closed/link").symlink_to(tree.with_name("outside"))
    tree.with_name("outside").mkdir(mode=0o750)
    (tree / "closed/locked").chmod(0o555)
    (tree / "closed").chmod(0o111)
    return tree


@pytest.fixture
def catalog(dirs: Dirs) -> Catalog:
    """An archive of the host zap with directories that their owner may not change."""
    return stored(locked(dirs.mirrors / "zap"))


def stored(tree: Path) -> Catalog:
    """Archive a tree, and record the archive as verified."""
    settings = BackupSettings()
    (place,) = [Place(each) for each in open_destinations("zap", settings)]

    def describe(packed: Packed) -> Manifest:
        return Manifest("zap", "", "openclaw", packed.entries)

    _, summary = store(NAME, tree, Owners("openclaw", "openclaw", {}), [place], settings, describe)
    known = record.Record()
    known.note(str(NAME), summary.sums, place.url, "content")
    record.save("zap", known)
    return Catalog("zap", settings)


@pytest.fixture
def ordinary(catalog: Catalog, dirs: Dirs) -> Iterator[None]:  # noqa: ARG001 - it comes first
    """Be a user who needs permissions, who owns everything here."""
    user = os.geteuid()
    if user == 0:
        for folder, folders, files in os.walk(dirs.hosts.parent):
            for name in (".", *folders, *files):
                os.chown(f"{folder}/{name}", 65534, 65534, follow_symlinks=False)
        os.seteuid(65534)
    yield
    os.seteuid(user)


@pytest.mark.usefixtures("ordinary")
def test_an_unpacked_archive_is_removed_whatever_its_modes(catalog: Catalog, dirs: Dirs) -> None:
    """No file of an archive stays unpacked because its directory may not be written to, and no link is followed."""
    left = locked(record.folder("zap") / "staging-killed")
    with from_archive(catalog, "latest", Talk(screen(), quiet=True)) as origin:
        assert (origin.tree / "closed/locked/token").read_text(encoding="utf-8") == "secret"
    assert list((dirs.state / "backup/zap").glob("staging-*")) == []
    assert left.with_name("outside").stat().st_mode & 0o777 == 0o750


@pytest.mark.usefixtures("ordinary")
def test_what_a_killed_drill_has_unpacked_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`inv drill --discard` removes the archive that a killed drill has left, whatever its modes are."""
    monkeypatch.setattr("swarm.vm.throwaway.discard", lambda *_: False)
    tree = throwaway.folder(f"{throwaway.derived_name('zap')}.tree")
    locked(tree)
    assert discard(samples.host("zap"), Talk(screen(), quiet=True))
    assert not tree.exists()


def test_an_archive_that_stays_unpacked_is_named(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If a file of an unpacked archive can't be removed, its directory is named."""
    with from_archive(catalog, "latest", Talk(screen(), quiet=True)) as origin:
        monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)
    shown = "".join(capsys.readouterr().err.split())
    assert f"{origin.tree}couldnotberemoved" in shown


def occupied(folder: Path) -> int:
    """Return the bytes that the files beneath a directory take."""
    return sum(path.lstat().st_blocks for path in folder.rglob("*")) * 512


@pytest.mark.parametrize(("content", "fits"), [("hole", True), ("text", False), ("noise", False)])
def test_holes_need_no_room(dirs: Dirs, monkeypatch: pytest.MonkeyPatch, content: str, *, fits: bool) -> None:
    """An archive is unpacked if only its holes are larger than the disk, and another one does not fill it."""
    tree, size, free = dirs.mirrors / "zap", 12 << 20, 68 << 20  # of which 64 MiB stay free
    tree.mkdir()
    data = {"hole": b"", "text": os.urandom(size // 2).hex().encode("ascii"), "noise": os.urandom(size)}
    (tree / "file").write_bytes(data[content])
    os.truncate(tree / "file", size)
    found, least = stored(tree), free

    def usage(folder: Path) -> SimpleNamespace:
        nonlocal least
        least = min(least, free - occupied(folder))
        return SimpleNamespace(free=free - occupied(folder))

    monkeypatch.setattr("swarm.backup.recover.shutil.disk_usage", usage)
    outcome = nullcontext() if fits else pytest.raises(Unfit, match=r"needs up to 12.6 MB")
    with outcome, from_archive(found, "latest", Talk(screen(), quiet=True)) as origin:
        assert (origin.tree / "file").stat().st_size == size
    assert least > 50 << 20
    assert list(record.folder("zap").glob("staging-*")) == []


@pytest.mark.usefixtures("catalog")
def test_a_drill_of_the_latest_archive_names_a_silent_destination(
    dirs: Dirs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A drill says once which destination did not answer, as that may have a newer archive than the one it tries."""

    def refuse(*_: object) -> None:
        raise Refused("there is no VM here")

    silent = dirs.backups.with_name("silent")
    settings = BackupSettings(destinations=(f"file://{dirs.backups}", f"file://{silent}"))
    monkeypatch.setattr("swarm.vm.throwaway.prepare", refuse)
    with pytest.raises(Refused, match="no VM here"):
        drill(
            samples.host("zap"),
            lambda: Catalog("zap", settings),
            Talk(screen(), quiet=True),
            Options(),
        )
    shown = "".join(capsys.readouterr().err.split())
    assert shown.count(f"file://{silent}didnotanswer,andmayhaveanewerarchive") == 1


@pytest.mark.usefixtures("catalog")
@pytest.mark.parametrize("part", ["archive", "manifest", "summary"])
def test_a_drill_takes_a_good_copy(
    dirs: Dirs, part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If one destination's copy is damaged, a drill says so, and verifies and restores that of the next one."""

    def refuse(*_: object) -> None:
        raise Refused("there is no VM here")

    other = dirs.backups.with_name("other")
    shutil.copytree(dirs.backups, other)
    (dirs.backups / getattr(NAME, part)).write_bytes(b"damaged")
    settings = BackupSettings(destinations=(f"file://{dirs.backups}", f"file://{other}"))
    monkeypatch.setattr("swarm.vm.throwaway.prepare", refuse)
    talk = Talk(screen(), quiet=True)
    with pytest.raises(Refused, match="no VM here"):
        drill(samples.host("zap"), lambda: Catalog("zap", settings), talk, Options())
    assert f"thecopyatfile://{other}istriednext" in "".join(capsys.readouterr().err.split())
    assert record.load("zap").verified(str(NAME), f"file://{other}") == "content"
    assert list(record.folder("zap").glob("staging-*")) == []
