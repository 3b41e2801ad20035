"""Look into the archives of a host: list them, read a manifest, compare two, find a file."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from swarm.backup import record, signature
from swarm.backup.busy import hold_host
from swarm.backup.naming import parse
from swarm.backup.repository import archives, open_destinations, read_manifest, read_signature, read_summary
from swarm.backup.retention import latest
from swarm.backup.store import verify
from swarm.errors import RemoteError, SwarmError, UsageError, VerificationFailed, explained

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from swarm.backup.manifest import Manifest, Summary
    from swarm.backup.naming import Name
    from swarm.backup.record import Verified
    from swarm.inventory import BackupSettings
    from swarm.s3 import Destination

__all__ = ["Catalog", "Row"]

_PATIENCE = 3600.0  # seconds to wait for a backup of the same host
_AT_ONCE = 8  # summaries that are fetched side by side


@dataclass(frozen=True)
class Row:
    """One archive at one destination."""

    name: Name
    destination: str
    summary: Summary | None
    verified: str | None
    retained: datetime | None = None
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain data."""
        found = self.summary
        return {
            "archive": str(self.name),
            "created": self.name.created.isoformat(),
            "destination": self.destination,
            "files": found.files if found else None,
            "bytes": found.size if found else None,
            "stored": found.stored if found else None,
            "sha256": found.sha256 if found else None,
            "recipient": found.recipient if found else None,
            "verified": self.verified,
            "retained_until": self.retained.isoformat() if self.retained else None,
            "problem": self.problem,
        }


@dataclass
class Catalog:
    """The archives of one host at all its destinations. A destination that fails is in `errors`."""

    host: str
    settings: BackupSettings
    identity: Path | None = None
    errors: dict[str, SwarmError] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.record = record.load(self.host)
        self.destinations = open_destinations(self.host, self.settings)

    def names(self) -> list[tuple[Destination, Name]]:
        """Return every archive at every destination that answers, oldest first. Raise the error if none answers."""
        found: list[tuple[Destination, Name]] = []
        self.errors.clear()
        for destination in self.destinations:
            try:
                found += [(destination, name) for name in archives(destination, self.host)]
            except Exception as error:  # noqa: BLE001 - one destination's failure must not hide the others
                self.errors[destination.url] = explained(error)
        if len(self.errors) == len(self.destinations):
            raise next(iter(self.errors.values()))
        return sorted(found, key=lambda each: (each[1].created, each[0].url))

    def rows(self) -> list[Row]:
        """Return a row for each archive at each destination, oldest first."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda each: self._row(*each), self.names()))

    def _row(self, destination: Destination, name: Name) -> Row:
        verified = self.record.verified(str(name), destination.url)
        try:
            summary = read_summary(destination, name)
            if not destination.exists(name.archive):
                return Row(name, destination.url, None, None, problem="its files are missing")
            retained = destination.retained(name.archive)
        except SwarmError as error:
            return Row(name, destination.url, None, verified, problem=error.message)
        return Row(name, destination.url, summary, verified, retained)

    def find(self, words: str = "latest") -> tuple[Destination, Name]:
        """Return where the archive called `words` is first found. Raise UsageError if there is none."""
        return self.copies(words)[0]

    def copies(self, words: str = "latest") -> list[tuple[Destination, Name]]:
        """Return where the archive called `words` is: its name, the name of one of its objects, or 'latest'.

        The latest is the newest verified one that is not dated in the future, or, if this machine has verified none,
        the newest of all. Raise UsageError if there is none.
        """
        return self._copies(self.names(), words)

    def _copies(self, found: list[tuple[Destination, Name]], words: str) -> list[tuple[Destination, Name]]:
        if words == "latest":
            known = [each for each in found if self.record.verified(str(each[1]), each[0].url)] or found
            newest = latest((name for _, name in known), datetime.now(UTC))
            matching = [each for each in known if each[1] == newest]
        else:
            parsed = parse(words)
            plain = str(parsed[0]) if parsed else words
            matching = [each for each in found if str(each[1]) == plain]
        if not matching:
            raise self._unknown(words)
        return matching

    def _unknown(self, words: str) -> UsageError:
        places = ", ".join(each.url for each in self.destinations)
        what = "no archive yet" if words == "latest" else f"no archive {words!r}"
        silent = "".join(f"; {url} did not answer" for url in self.errors)
        return UsageError(
            f"{self.host}: there is {what} at {places}{silent}",
            f"./inv backup.list --host {self.host} lists the archives",
        )

    def manifest(self, destination: Destination, name: Name, summary: Summary | None = None) -> Manifest:
        """Return the manifest of an archive. Raise VerificationFailed, UsageError or RemoteError."""
        return read_manifest(destination, name, identity=self.identity, summary=summary)

    def authentic(self, destination: Destination, name: Name) -> Summary:
        """Return the summary of an archive if it and its manifest are those that this machine has recorded.

        Without a record its signature decides. One that is not this machine's own leaves a note: a machine that
        starts anew has another key, and must still be able to restore. Raise VerificationFailed or RemoteError.
        """
        summary = read_summary(destination, name)
        if self.record.contradicts(str(name), summary.sums):
            raise _replaced(f"{name} at {destination.url}")
        if not self.record.knows(str(name)):
            self._check_signature(destination, name, summary)
        return summary

    def check(
        self,
        destination: Destination,
        name: Name,
        progress: Callable[[int], None] | None = None,
        *,
        locked: bool = False,
    ) -> str:
        """Verify one archive from end to end, record the result, and return 'content' or 'ciphertext'.

        The host's lock is taken to record the result, unless the caller has `locked` the host. Raise
        VerificationFailed if anything differs from the manifest, the summary, its signature or this machine's own
        record; RemoteError, also if the archive is missing there; Refused if a backup holds the lock for too long.
        """
        if not destination.exists(name.manifest):
            raise RemoteError(
                f"{name} is missing at {destination.url}",
                f"./inv backup --host {self.host} stores an archive at every destination",
            )
        summary = self.authentic(destination, name)
        readable = self.identity is not None or not name.encrypted
        manifest = self.manifest(destination, name, summary) if readable else None
        done = verify(destination, name, summary, manifest, identity=self.identity, progress=progress)
        with nullcontext() if locked else hold_host(self.host, "verification", patience=_PATIENCE):
            self._remember(destination, name, summary, done)
        return done

    def _remember(self, destination: Destination, name: Name, summary: Summary, done: Verified) -> None:
        """Record the result, under the host's lock: a backup may have written the record during the long read."""
        self.record = record.load(self.host)
        if self.record.contradicts(str(name), summary.sums):
            raise _replaced(f"{name} at {destination.url}")
        if done == "content" or self.record.verified(str(name), destination.url) is None:
            self.record.note(str(name), summary.sums, destination.url, done)
            record.save(self.host, self.record)

    def _check_signature(self, destination: Destination, name: Name, summary: Summary) -> None:
        """Note an archive that this machine has neither recorded nor signed. Another machine may have made it."""
        try:
            signature.verify(summary.to_bytes(), read_signature(destination, name))
        except SwarmError:
            note = f"{name}: another machine made this archive, or its summary was changed"
            self.notes += [] if note in self.notes else [note]

    def chosen(self, words: str, *, everything: bool, sample: int) -> Sequence[tuple[Destination, Name]]:
        """Return the archives to verify: all, `sample` of them at random, or every copy of the one called `words`.

        A copy that should be there is among them although it is missing. Raise UsageError if there is none.
        """
        found = self.names()
        if not everything and not sample:
            name = self._copies(found, words)[0][1]
            return [(each, name) for each in self.destinations if self._holds(each, name, words, found)]
        if not found:
            raise self._unknown("latest")
        return found if everything else random.sample(found, min(sample, len(found)))

    def _holds(
        self, destination: Destination, name: Name, words: str, found: Sequence[tuple[Destination, Name]]
    ) -> bool:
        """Whether an archive is at a destination that answers, or should be: the latest is at every one."""
        known = words == "latest" or self.record.verified(str(name), destination.url)
        return destination.url not in self.errors and bool(known or (destination, name) in found)


def _replaced(where: str) -> VerificationFailed:
    return VerificationFailed(
        f"{where}: the summary's checksums are not those that this machine has recorded",
        "the archive has been replaced; restore from another one",
    )
