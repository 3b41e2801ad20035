"""What an archive that is not completed leaves behind at its destinations: nothing."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from swarm.backup.manifest import Manifest
from swarm.backup.naming import Name
from swarm.backup.owners import Owners
from swarm.backup.repository import open_destinations
from swarm.backup.store import Place, store
from swarm.errors import Unfit
from swarm.inventory import BackupSettings

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.backup.archive import Packed
    from tests.conftest import Dirs

NAME = Name("zap", datetime(2026, 11, 25, 3, tzinfo=UTC))


@pytest.fixture
def folders(dirs: Dirs, tmp_path: Path) -> list[Path]:
    """Two destinations, and a mirror to archive."""
    (dirs.mirrors / "zap").mkdir()
    (dirs.mirrors / "zap/openclaw.json").write_text("{}", encoding="utf-8")
    made = [tmp_path / "first", tmp_path / "second"]
    for each in made:
        each.mkdir()
    return made


def archive(dirs: Dirs, folders: list[Path]) -> None:
    """Archive the mirror."""
    settings = BackupSettings(destinations=tuple(f"file://{each}" for each in folders))
    places = [Place(each) for each in open_destinations("zap", settings)]

    def describe(packed: Packed) -> Manifest:
        return Manifest("zap", "", "openclaw", packed.entries)

    store(NAME, dirs.mirrors / "zap", Owners("openclaw", "openclaw", {}), places, settings, describe)


def test_an_archive_that_cannot_be_signed_leaves_nothing(
    dirs: Dirs, folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the summary can't be signed, no destination keeps a file of the archive's size."""
    archive(dirs, [tmp_path])  # makes the key
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Unfit, match="ssh-keygen"):
        archive(dirs, folders)
    assert [list(each.iterdir()) for each in folders] == [[], []]


def test_an_interrupted_archive_leaves_nothing(
    dirs: Dirs, folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the first destination writes the archive to its disk leaves nothing at any destination."""

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        archive(dirs, folders)
    assert [list(each.iterdir()) for each in folders] == [[], []]
