"""swarm's archive step, or its restore, alone: for bench/backup.py, which measures this process as a whole."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from swarm.backup.archive import Packed, unpack
from swarm.backup.manifest import Manifest
from swarm.backup.naming import parse
from swarm.backup.owners import Owners
from swarm.backup.repository import open_destinations, read_manifest
from swarm.backup.store import Place, free_name, store, verify
from swarm.inventory import BackupSettings

OWNERS = Owners("openclaw", "openclaw", {})


def archive(root: Path, settings: BackupSettings) -> None:
    """Archive a tree, read it back, and print the name, the stored bytes, and the seconds of both parts."""
    start = time.monotonic()
    places = [Place(each) for each in open_destinations("bench", settings)]
    for place in places:
        place.attempt(place.destination.check)
    name = free_name("bench", places, datetime.now(UTC), encrypted=settings.recipient is not None)

    def describe(packed: Packed) -> Manifest:
        return Manifest("bench", name.created.isoformat(), "openclaw", packed.entries)

    manifest, summary = store(name, root, OWNERS, places, settings, describe)
    stored = time.monotonic()
    for place in places:
        place.attempt(verify, place.destination, name, summary, manifest)
        if place.error:
            raise place.error
    print(name.archive, summary.stored, stored - start, time.monotonic() - stored)


def restore(archive_name: str, target: Path, settings: BackupSettings) -> None:
    """Unpack an archive into a new directory."""
    (destination,) = open_destinations("bench", settings)
    parsed = parse(archive_name)
    assert parsed  # noqa: S101 - the name comes from archive() above
    manifest = read_manifest(destination, parsed[0], identity=None)
    target.mkdir()
    done = unpack(destination.read(archive_name), target, identity=None)
    assert len(done.entries) == len(manifest.entries)  # noqa: S101 - a defect if not


if __name__ == "__main__":
    what, url, endpoint, *words = sys.argv[1:]
    chosen = BackupSettings.model_validate({"destinations": (url,), "endpoint": endpoint})
    if what == "archive":
        archive(Path(words[0]), chosen)
    else:
        restore(words[0], Path(words[1]), chosen)
