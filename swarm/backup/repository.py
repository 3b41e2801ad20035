"""Where archives are stored, and how they are found: S3 buckets and directories."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.backup.crypt import unseal
from swarm.backup.directory import Directory
from swarm.backup.manifest import Manifest, Summary
from swarm.backup.naming import Name, parse
from swarm.errors import RemoteError, VerificationFailed
from swarm.paths import backups_dir
from swarm.s3 import Bucket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.inventory.backup import BackupSettings
    from swarm.s3 import Destination

__all__ = [
    "archives",
    "manifest_sha256",
    "open_destinations",
    "read_manifest",
    "read_signature",
    "read_summary",
]

_SMALL = 1 << 20  # bytes of the largest summary that is read
_LARGE = 256 << 20  # of the largest manifest
_COMMIT_MARK = "manifest.json.zst"


def open_destinations(host: str, settings: BackupSettings) -> list[Destination]:
    """Return the destinations of a host, in the order of its file. The default is the project's own directory."""

    def owns(name: str) -> bool:
        return (parsed := parse(name)) is not None and parsed[0].host == host

    opened: list[Destination] = []
    for url in settings.destinations or (f"file://{backups_dir()}",):
        if url.startswith("file://"):
            opened.append(Directory(Path(url.removeprefix("file://")), owns=owns))
        else:
            bucket, _, prefix = url.removeprefix("s3://").partition("/")
            ca, endpoint = settings.ca_certificate, settings.endpoint
            opened.append(Bucket(bucket, prefix, endpoint=endpoint, ca_certificate=ca, owns=owns))
    return opened


def archives(destination: Destination, host: str) -> list[Name]:
    """Return the committed archives of exactly this host, oldest first. Listings are not trusted to be complete."""
    names = (parse(stored.name) for stored in destination.objects())
    return sorted(name for name, part in filter(None, names) if part == _COMMIT_MARK and name.host == host)


def read_summary(destination: Destination, name: Name) -> Summary:
    """Return the summary of an archive."""
    summary = Summary.from_bytes(_bounded(destination, name.summary, _SMALL))
    if summary.host != name.host:
        raise VerificationFailed(f"{name.summary} in {destination.url} belongs to another host")
    return summary


def read_manifest(
    destination: Destination, name: Name, *, identity: Path | None, summary: Summary | None = None
) -> Manifest:
    """Return the manifest of an archive, if its checksum is the one in the summary, which is read unless given."""
    summary = summary or read_summary(destination, name)
    sealed = _bounded(destination, name.manifest, _LARGE)
    if hashlib.sha256(sealed).hexdigest() != summary.manifest_sha256:
        raise VerificationFailed(f"{name.manifest} in {destination.url} does not match its summary")
    manifest = Manifest.from_bytes(unseal([sealed], identity=identity, recipient=summary.recipient))
    if manifest.host != name.host:
        raise VerificationFailed(f"{name.manifest} in {destination.url} belongs to another host")
    return manifest


def read_signature(destination: Destination, name: Name) -> bytes:
    """Return the signature of an archive's summary."""
    return _bounded(destination, name.signature, _SMALL)


def manifest_sha256(destination: Destination, name: Name) -> str:
    """Return the checksum of a manifest as it is stored."""
    digest = hashlib.sha256()
    for chunk in _limited(destination, name.manifest, _LARGE):
        digest.update(chunk)
    return digest.hexdigest()


def _bounded(destination: Destination, name: str, limit: int) -> bytes:
    return b"".join(_limited(destination, name, limit))


def _limited(destination: Destination, name: str, limit: int) -> Iterator[bytes]:
    size = 0
    for chunk in destination.read(name):
        size += len(chunk)
        if size > limit:
            raise RemoteError(f"{name} in {destination.url} is too large")
        yield chunk
