"""Where a restore comes from: the mirror itself, or an archive that is unpacked and checked on this machine first."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from swarm.backup import record
from swarm.backup.archive import pack, unpack
from swarm.backup.local import marker_of, remove_tree
from swarm.backup.manifest import Manifest, compare
from swarm.backup.now import owners_of
from swarm.backup.staging import SPARSE
from swarm.backup.store import intact
from swarm.errors import Refused, RemoteError, Unfit, VerificationFailed
from swarm.paths import mirrors_dir
from swarm.text import amount, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from swarm.backup.catalog import Catalog
    from swarm.backup.manifest import Summary
    from swarm.backup.naming import Name
    from swarm.console import Talk
    from swarm.inventory import Host
    from swarm.s3 import Destination

__all__ = [
    "Origin",
    "discard",
    "first_good",
    "from_archive",
    "from_mirror",
    "require_mirror",
    "unpacked",
    "warn_of_silence",
]

Returned = TypeVar("Returned")

_SHOWN = 5  # problems that an error lists
_RESERVE = 64 << 20  # bytes that unpacking leaves free on the disk


@dataclass(frozen=True)
class Origin:
    """A tree on this machine that can be restored, and its manifest. `what` names it for people."""

    what: str
    tree: Path
    manifest: Manifest


def require_mirror(host: Host) -> Path:
    """Return the host's mirror. Raise Refused if there is none, or if a backup broke off while it changed it."""
    tree = mirrors_dir() / host.name
    if not (tree / "openclaw.json").is_file():
        raise Refused(
            f"{host.name}: there is no mirror in {tree}",
            f"./inv restore --host {host.name} --archive latest restores an archive",
        )
    if (marker := marker_of(tree)).exists():
        raise Refused(
            f"{host.name}: the mirror in {tree} is half written, because a backup did not complete it",
            f"./inv restore --host {host.name} --archive latest restores an archive, and "
            f"./inv backup --host {host.name} completes the mirror; without the file {marker}, it is taken as it is",
        )
    return tree


def from_mirror(host: Host, talk: Talk) -> Origin:
    """Return the host's mirror, with a manifest that is made from it now. Raise Refused as require_mirror() does."""
    tree = require_mirror(host)
    known = record.load(host.name)
    with talk.step("read the mirror", silent=True) as meter:
        packed = pack(
            tree, owners_of(known), [], recipient=None, progress=lambda count: meter.advance(count, None)
        )
    manifest = Manifest(
        host=host.name,
        created="",
        user=host.openclaw.user,
        entries=packed.entries,
        databases=known.databases,
        exclude=host.backup.exclude,
        versions=known.versions,
    )
    return Origin(f"the mirror {tree}", tree, manifest)


@contextlib.contextmanager
def from_archive(catalog: Catalog, words: str, talk: Talk) -> Iterator[Origin]:
    """Unpack an archive into a private directory, check every file, and remove the directory afterwards.

    A copy that is damaged or can't be read is named in a warning, and that of the next destination is taken. The tree
    holds symbolic links as the mirror does, so nothing may be opened through them. Raise VerificationFailed if anything
    differs from the manifest, the summary or this machine's record, Unfit if the disk is too small, UsageError,
    RemoteError.
    """
    copies = catalog.copies(words)
    warn_of_silence(catalog, words, talk)
    with contextlib.ExitStack() as stack:

        def read(destination: Destination, name: Name) -> Origin:
            return stack.enter_context(unpacked(catalog, destination, name, talk))

        yield first_good(copies, talk, read)


def warn_of_silence(catalog: Catalog, words: str, talk: Talk) -> None:
    """Warn of the destinations that did not answer when the archive called `words` was looked up."""
    for url, error in catalog.errors.items() if words == "latest" else ():
        talk.warn(f"{url} did not answer, and may have a newer archive: {error.message}")


def first_good(
    copies: Sequence[tuple[Destination, Name]], talk: Talk, read: Callable[[Destination, Name], Returned]
) -> Returned:
    """Return what `read` makes of the first copy that is neither damaged nor unreadable. Raise the last one's error."""
    for copy, (following, _) in pairwise(copies):
        try:
            return read(*copy)
        except (VerificationFailed, RemoteError) as error:
            talk.warn(f"{error.message}; the copy at {following.url} is tried next")
    return read(*copies[-1])


@contextlib.contextmanager
def unpacked(catalog: Catalog, destination: Destination, name: Name, talk: Talk) -> Iterator[Origin]:
    """Unpack and check one copy of an archive, as from_archive() does."""
    summary = catalog.authentic(destination, name)
    for note in catalog.notes:
        talk.warn(note)
    manifest = catalog.manifest(destination, name, summary)
    with _staging(catalog.host, talk) as staging:
        check = _room(staging, name, manifest, summary)
        with talk.step(f"unpack {name}", silent=True) as meter:

            def advance(done: int) -> None:
                meter.advance(done, None)
                check()

            with intact(destination, name, summary, advance) as chunks:
                found = unpack(chunks, staging, identity=catalog.identity)
        for problem in found.problems:  # a link that this disk can't hold; the check in the guest says more
            talk.warn(problem)
        if problems := compare(manifest, found.entries):
            more = f", and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
            raise VerificationFailed(
                f"{name} differs from its manifest: {'; '.join(problems[:_SHOWN])}{more}",
                f"./inv backup.list --host {catalog.host} lists other archives",
            )
        yield Origin(f"{name} at {destination.url}", staging, manifest)


def _room(staging: Path, name: Name, manifest: Manifest, summary: Summary) -> Callable[[], None]:
    """Return a check to repeat while the archive is unpacked. It raises Unfit if the disk is too small.

    The sizes of large files include holes, which take no space. What does not fit even without them is refused at once.
    """
    sizes = [entry.size for entry in manifest.entries]
    if sum(sizes) + _RESERVE <= shutil.disk_usage(staging).free:
        return lambda: None

    def check(needed: int = 0) -> None:
        if needed + _RESERVE > (free := shutil.disk_usage(staging).free):
            raise Unfit(
                f"{name} needs up to {amount(sum(sizes))} to unpack, and {staging} has {amount(free)} free",
                "free space, or set SWARM_STATE to a directory on a larger disk",
            )

    check(max(sum(size for size in sizes if size < SPARSE), summary.stored))
    return check


@contextlib.contextmanager
def _staging(host: str, talk: Talk) -> Iterator[Path]:
    """A private directory for one restore. Those of killed runs are removed: the caller holds the host's lock."""
    folder = record.folder(host)
    for old in folder.glob("staging-*"):
        discard(old, talk)
    staging = Path(tempfile.mkdtemp(prefix="staging-", dir=folder))
    try:
        yield staging
    finally:
        discard(staging, talk)


def discard(tree: Path, talk: Talk) -> None:
    """Remove an unpacked archive. Warn of one that stays: nothing in it is encrypted."""
    if not remove_tree(tree):
        talk.warn(f"{tree} could not be removed; it has unpacked files of an archive: rm -r {quote(tree)}")
