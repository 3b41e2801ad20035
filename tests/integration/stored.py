"""Real archives without a guest: a small tree, archived, verified and recorded at the time that a test names."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from swarm.backup import record
from swarm.backup.archive import Owners
from swarm.backup.catalog import Catalog
from swarm.backup.manifest import Manifest
from swarm.backup.naming import Name
from swarm.backup.repository import open_destinations
from swarm.backup.store import Place, store
from swarm.inventory.backup import BackupSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from swarm.backup.archive import Packed

__all__ = ["HOST", "archived", "catalog", "settings", "swapped"]

HOST = "zap"


def settings(*folders: Path, **others: object) -> BackupSettings:
    """Return settings with directories as destinations."""
    return BackupSettings.model_validate({"destinations": [f"file://{each}" for each in folders], **others})


def catalog(found: BackupSettings, identity: Path | None = None) -> Catalog:
    """Open the archives."""
    return Catalog(HOST, found, identity)


def archived(
    base: Path, to: BackupSettings, created: datetime, files: Mapping[str, str], *, verified: bool = True
) -> Name:
    """Archive a tree of `files`, which is made below `base`, at every destination. Return the archive's name.

    `verified` reads the archive back and records the result, as a backup does.
    """
    name = Name(HOST, created.astimezone(UTC).replace(microsecond=0), to.recipient is not None)
    tree = base / f"tree-{name}"
    tree.mkdir()
    for path, text in files.items():
        (tree / path).write_text(text, encoding="utf-8")
    places = [Place(each) for each in open_destinations(HOST, to)]

    def describe(packed: Packed) -> Manifest:
        return Manifest(HOST, name.created.isoformat(), "openclaw", packed.entries)

    _, summary = store(name, tree, Owners("openclaw", "openclaw", {}), places, to, describe)
    assert [place.error for place in places] == [None] * len(places)
    if verified:
        known = record.load(HOST)
        for place in places:
            known.note(str(name), summary.sums, place.url, "content")
        record.save(HOST, known)
    return name


def swapped(folder: Path, name: Name, other: Name) -> None:
    """Replace every object of the archive `name` with that of `other`."""
    for mine, theirs in zip(name.objects, other.objects, strict=True):
        (folder / theirs).replace(folder / mine)
