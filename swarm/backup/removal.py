"""Remove what the retention policy lets go, and what an interrupted run or removal has left.

Listings are not trusted: they may be stale or incomplete. Whatever decides about a removal is looked up once more.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from swarm.backup.naming import Name, parse
from swarm.backup.retention import removable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from swarm.backup.record import Record
    from swarm.backup.retention import Policy
    from swarm.s3 import Destination, Stored

__all__ = ["Found", "found", "prune"]

_ARCHIVE, _MANIFEST = "tar.zst", "manifest.json.zst"
# Another machine may have written the archive, and be about to write the manifest.
_ABANDONED = timedelta(days=1)
_AT_ONCE = 8  # objects that are looked up side by side


@dataclass(frozen=True)
class Found:
    """The objects of one archive in a listing: which parts there are, and when the newest was written."""

    name: Name
    parts: frozenset[str]
    modified: datetime


def found(listing: Iterable[Stored], host: str) -> list[Found]:
    """Return what a listing holds of exactly this host, oldest first. Foreign objects are left out. Pure."""
    groups: dict[str, Found] = {}
    for stored in listing:
        name, part = parse(stored.name) or (None, "")
        if name is None or name.host != host:
            continue
        old = groups.get(str(name), Found(name, frozenset(), stored.modified))
        # Summaries do not tell whether their archive is encrypted.
        whose = replace(name, encrypted=name.encrypted or old.name.encrypted)
        groups[str(name)] = Found(whose, old.parts | {part}, max(old.modified, stored.modified))
    return sorted(groups.values(), key=lambda each: each.name)


def prune(
    destination: Destination, host: str, policy: Policy, record: Record, *, plan_only: bool = False
) -> tuple[list[Name], list[str]]:
    """Remove the archives that the policy lets go. Return their names, and notes about those that are locked.

    Only complete archives that this machine has verified at this destination count and go. What a removal that failed
    has left of such an archive goes too, and after a day what never got a manifest. Raise RemoteError.
    """
    listing, now = destination.objects(), datetime.now(UTC)
    present = found(listing, host)
    known = [each for each in present if record.verified(str(each.name), destination.url)]
    leftovers = [each for each in present if each not in known]
    newest = max((each.modified for each in listing), default=now)
    gone, notes = [], []
    # The destination's own clock counts as well: this machine's may be wrong.
    for name in (*_due(destination, known, policy, now), *_orphans(destination, leftovers, min(now, newest))):
        # All or nothing: the objects of an archive are locked one after another, and locks expire in that order.
        if not plan_only and (retained := _retained(destination, name)):
            notes.append(f"{name} is retained until {retained:%Y-%m-%d %H:%M} UTC")
            continue
        if not plan_only:
            for each in name.objects:
                destination.delete(each)
            record.forget(str(name), destination.url)
        gone.append(name)
    if not plan_only:
        _forget(destination, present, record)
    return gone, notes


def _retained(destination: Destination, name: Name) -> datetime | None:
    return max((until for each in name.objects if (until := destination.retained(each))), default=None)


def _due(destination: Destination, known: list[Found], policy: Policy, now: datetime) -> list[Name]:
    """Return the verified archives that the policy lets go, and what is left of those that it would let go."""
    names = [each.name for each in known]
    if not removable(names, policy, now):  # fewer archives never let more of them go
        return []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        parts = list(pool.map(lambda name: _parts(destination, name), names))
    intact = [name for name, number in zip(names, parts, strict=True) if number == 2]  # noqa: PLR2004 - both
    halves = [name for name, number in zip(names, parts, strict=True) if number == 1]
    due = removable(intact, policy, now)
    return due + [each for each in halves if each in removable([*intact, each], policy, now)]


def _parts(destination: Destination, name: Name) -> int:
    return destination.exists(name.manifest) + destination.exists(name.archive)


def _orphans(destination: Destination, leftovers: list[Found], now: datetime) -> list[Name]:
    """Return what has no manifest since at least a day, and so is no archive."""
    limit = now - _ABANDONED
    return [
        each.name
        for each in leftovers
        if max(each.modified, each.name.created) < limit
        and _MANIFEST not in each.parts
        and not any(destination.exists(name.manifest) for name in _both(each.name))
    ]


def _both(name: Name) -> tuple[Name, Name]:
    return replace(name, encrypted=False), replace(name, encrypted=True)


def _forget(destination: Destination, present: list[Found], record: Record) -> None:
    """Forget the archives that others have removed."""
    known = {words for words in record.archives if record.verified(words, destination.url)}
    listed = {str(each.name) for each in present if each.parts & {_ARCHIVE, _MANIFEST}}
    if len(known & listed) < 2:  # noqa: PLR2004 - the newest alone: perhaps the mount point of a disk that is not there
        return
    for words in known - listed:
        parsed = parse(f"{words}.{_ARCHIVE}")
        if parsed and not any(_parts(destination, name) for name in _both(parsed[0])):
            record.forget(words, destination.url)
