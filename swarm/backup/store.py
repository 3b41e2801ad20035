"""Write an archive to every destination, and read it back.

Each destination is on its own: one that fails does not keep the others from getting their archive.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from swarm.backup import signature
from swarm.backup.archive import Incomplete, pack, stored_sha256, unpack
from swarm.backup.crypt import seal
from swarm.backup.manifest import Manifest, Summary, compare
from swarm.backup.naming import Name
from swarm.backup.repository import manifest_sha256
from swarm.backup.retention import Policy
from swarm.errors import SwarmError, VerificationFailed, explained
from swarm.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from swarm.backup.archive import Owners, Packed, Unpacked
    from swarm.backup.record import Verified
    from swarm.inventory import BackupSettings
    from swarm.s3 import Destination, Writer

__all__ = ["Place", "free_name", "intact", "policy", "store", "verify"]

Returned = TypeVar("Returned")

_SHOWN = 5  # problems of an archive that an error lists


@dataclass
class Place:
    """A destination during one run: its open archive, and the first error that it met."""

    destination: Destination
    error: SwarmError | None = None
    writer: Writer | None = None
    verified: Verified | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The destination's address for messages."""
        return self.destination.url

    def attempt(self, action: Callable[..., Returned], *args: Any, **options: Any) -> Returned | None:
        """Return what `action` returns. Its error becomes this place's, and later actions are skipped."""
        if self.error:
            return None
        try:
            return action(*args, **options)
        except Exception as error:  # noqa: BLE001 - one destination's failure must not end the others
            self.error = explained(error)
            self.abort()
            return None

    def write(self, data: bytes) -> None:
        """Write to the open archive. An error is kept."""
        if self.writer is not None:
            self.attempt(self.writer.write, data)

    def commit(self) -> None:
        """Complete the open archive."""
        if self.writer is not None:
            self.attempt(self.writer.commit)

    def abort(self) -> None:
        """Remove the open archive."""
        if self.writer is not None:
            with suppress(Exception):
                self.writer.abort()


def policy(settings: BackupSettings) -> Policy:
    """Return the retention policy of a host file."""
    return Policy(settings.keep, settings.daily, settings.weekly, settings.monthly)


def free_name(host: str, places: Sequence[Place], now: datetime, *, encrypted: bool) -> Name:
    """Return a name that no destination uses yet: that of `now`, or of a later second."""
    name = Name(host, now.replace(microsecond=0), encrypted)
    taken = {each.name for place in places for each in place.attempt(place.destination.objects) or ()}
    while any(each.startswith(f"{name}.") for each in taken):
        name = Name(host, name.created + timedelta(seconds=1), encrypted)
    return name


def store(
    name: Name,
    root: Path,
    owners: Owners,
    places: Sequence[Place],
    settings: BackupSettings,
    describe: Callable[[Packed], Manifest],
    *,
    progress: Callable[[int], None] | None = None,
) -> tuple[Manifest, Summary]:
    """Archive the tree `root` at every place, the manifest last. Return manifest and summary.

    Raise what pack() and sign() raise, after removing what was written. The error of a place stays with that place.
    """
    try:
        for place in places:
            place.writer = place.attempt(place.destination.writer, name.archive)
        packed = pack(
            root,
            owners,
            [place for place in places if place.writer],
            recipient=settings.recipient,
            limit=settings.bwlimit * 1024 if settings.bwlimit else None,
            progress=progress,
        )
        manifest = describe(packed)
        stored = seal(manifest.to_bytes(), settings.recipient)
        summary = _summary(name, packed, manifest, hashlib.sha256(stored).hexdigest(), settings.recipient)
        signed = signature.sign(summary.to_bytes())
        for place in places:
            place.commit()
            place.attempt(_describe, place.destination, name, summary, signed, stored)
    except BaseException:  # Ctrl-C too
        for place in places:
            place.abort()
        raise
    return manifest, summary


def _summary(name: Name, packed: Packed, manifest: Manifest, digest: str, recipient: str | None) -> Summary:
    return Summary(
        host=name.host,
        created=manifest.created,
        files=sum(1 for entry in packed.entries if entry.kind in {"file", "hard"}),
        size=packed.size,
        stored=packed.stored,
        sha256=packed.sha256,
        manifest_sha256=digest,
        recipient=recipient,
        versions=dict(manifest.versions),
    )


def _describe(destination: Destination, name: Name, summary: Summary, signed: bytes, manifest: bytes) -> None:
    destination.put(name.summary, summary.to_bytes())
    destination.put(name.signature, signed)
    destination.put(name.manifest, manifest, fresh=True)


def verify(
    destination: Destination,
    name: Name,
    summary: Summary,
    manifest: Manifest | None,
    *,
    identity: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Verified:
    """Read an archive back completely. Return "content", or "ciphertext" if it is encrypted and there is no identity.

    Raise VerificationFailed, naming what differs, or RemoteError.
    """
    where, found = f"{name} at {destination.url}", None
    with intact(destination, name, summary, progress) as chunks:
        if name.encrypted and identity is None:
            stored_sha256(chunks)
        elif manifest is None:
            raise VerificationFailed(f"{where}: there is no manifest to compare the content with")
        else:
            found = _unpacked(chunks, manifest, where, identity=identity, recipient=summary.recipient)
    if manifest_sha256(destination, name) != summary.manifest_sha256:
        raise VerificationFailed(f"{where}: the manifest's checksum differs from the summary's")
    if found is None or manifest is None:
        return "ciphertext"
    if problems := compare(manifest, found.entries):
        raise _differs(where, problems)
    return "content"


def _unpacked(
    chunks: Iterable[bytes], manifest: Manifest, where: str, *, identity: Path | None, recipient: str | None
) -> Unpacked:
    """Read an archive to its end. If it is cut short, the error names what is missing."""
    try:
        return unpack(chunks, None, identity=identity, recipient=recipient)
    except Incomplete as error:
        raise _differs(f"{where}: {error.message}", compare(manifest, error.entries)) from None


def _differs(where: str, problems: Sequence[str]) -> VerificationFailed:
    shown = [visible(problem, lines=False) for problem in problems[:_SHOWN]]
    more = f", and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return VerificationFailed(f"{where}: {'; '.join(shown)}{more}", "restore from another archive")


@contextmanager
def intact(
    destination: Destination, name: Name, summary: Summary, progress: Callable[[int], None] | None = None
) -> Iterator[Iterator[bytes]]:
    """Read an archive. At the end of the block, raise VerificationFailed unless its checksum is the summary's."""
    digest = hashlib.sha256()
    chunks = _counted(destination.read(name.archive), digest.update, progress)
    yield chunks
    for _ in chunks:  # what follows the end of the archive proper belongs to the checksum too
        pass
    if digest.hexdigest() != summary.sha256:
        raise VerificationFailed(
            f"{name} at {destination.url}: the archive's checksum differs from the summary's",
            "restore from another archive",
        )


def _counted(
    chunks: Iterable[bytes], digest: Callable[[bytes], None], progress: Callable[[int], None] | None
) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        digest(chunk)
        done += len(chunk)
        if progress:
            progress(done)
        yield chunk
