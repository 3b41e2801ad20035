"""What a restore would change: the manifest's entries, prepared for the guest, compared with its files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from swarm.errors import VerificationFailed
from swarm.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from swarm.backup.manifest import Entry, Manifest

__all__ = ["Changes", "changes", "is_secret", "prepared"]

_SHOWN = 8  # paths of each kind that a plan shows
_SIDECARS = ("-wal", "-shm", "-journal")
_STRAYS = tuple(suffix + each for suffix in (".sqlite", ".sqlite3", ".db", ".db3") for each in _SIDECARS)
_SECRET_FILES = {"openclaw.json", ".env", "secrets.json"}
_SECRET_FOLDERS = {"credentials", "identity"}


def is_secret(path: str) -> bool:
    """Whether only the account may read this, whatever the manifest says. So are databases."""
    return path in _SECRET_FILES or path.partition("/")[0] in _SECRET_FOLDERS


@dataclass(frozen=True)
class Changes:
    """What a restore would change: sorted paths. The state directory itself is `.`."""

    create: tuple[str, ...] = ()
    update: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.create or self.update or self.delete)

    def lines(self) -> list[str]:
        """Return the changes for people: the counts, then the first paths of each kind."""
        kinds = (("create", self.create), ("update", self.update), ("delete", self.delete))
        lines = [", ".join(f"{len(paths)} to {kind}" for kind, paths in kinds)]
        for kind, paths in kinds:
            lines += [f"  {kind} {visible(path, lines=False)}" for path in paths[:_SHOWN]]
            lines += [f"  {kind} {len(paths) - _SHOWN} more"] if len(paths) > _SHOWN else []
        return lines


def prepared(manifest: Manifest, user: str) -> tuple[Entry, ...]:
    """Return the entries as they should be in the guest: secrets are private, and the account may have a new name.

    A hard link is listed as a file, with the content of its first name. Sidecars of databases are left out, also those
    that an old backup has of a database that it excludes. Raise VerificationFailed for a path that leaves the state
    directory.
    """
    files = manifest.files
    stale = {path + suffix for path in manifest.databases for suffix in _SIDECARS}
    entries = []
    for entry in manifest.entries:
        if entry.path in stale or entry.path == ".":
            continue
        if _stray(entry, files):
            continue
        if not all(part not in {"", ".", ".."} for part in entry.path.split("/")) or "\0" in entry.path:
            raise VerificationFailed(
                f"the manifest lists {visible(entry.path, lines=False)}, an invalid path"
            )
        if entry.kind == "hard":
            first = files.get(entry.target)
            if first is None or first.kind != "file":
                raise VerificationFailed(
                    f"{visible(entry.path, lines=False)}: the file it is linked to is not listed"
                )
            entry = replace(first, path=entry.path)  # noqa: PLW2901
        entries.append(_private(entry, manifest, user))
    return tuple(entries)


def _stray(entry: Entry, files: Mapping[str, Entry]) -> bool:
    """Whether this belongs to a database that is not in the backup."""
    alone = entry.path.endswith(_STRAYS) and entry.path.rpartition("-")[0] not in files
    return alone and entry.kind != "directory"


def _private(entry: Entry, manifest: Manifest, user: str) -> Entry:
    mode = entry.mode & 0o777
    if is_secret(entry.path) or entry.path in manifest.databases:
        mode = 0o700 if entry.kind == "directory" else 0o600
    return replace(
        entry,
        mode=0o777 if entry.kind == "link" else mode,
        owner=user if entry.owner == manifest.user else entry.owner,
        group=user if entry.group == manifest.user else entry.group,
    )


def changes(
    wanted: Iterable[Entry], found: Iterable[Entry], missing: Mapping[str, str] | None = None
) -> Changes:
    """Return how `found` must change to become `wanted`. Times are not compared.

    `missing` says which names stand in for `user NAME` and `group NAME` that the guest does not have.
    """
    stand_in = missing or {}

    def shown(entry: Entry) -> tuple[object, ...]:
        owner = stand_in.get(f"user {entry.owner}", entry.owner)
        group = stand_in.get(f"group {entry.group}", entry.group)
        size = entry.size if entry.kind == "file" else 0
        return entry.kind, entry.mode, owner, group, size, entry.sha256, entry.target

    after, before = {each.path: each for each in wanted}, {each.path: each for each in found}
    return Changes(
        tuple(sorted(after.keys() - before.keys())),
        tuple(sorted(p for p in after.keys() & before.keys() if shown(after[p]) != shown(before[p]))),
        tuple(sorted(before.keys() - after.keys())),
    )
