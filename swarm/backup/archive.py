"""Pack a mirror into one archive in a single pass: pax tar, zstd, and age if there is a recipient."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from swarm.backup import tar
from swarm.backup.checksums import CLOSING, line
from swarm.backup.crypt import compressor, encrypt
from swarm.backup.manifest import Entry
from swarm.backup.owners import Owners
from swarm.backup.pipe import Pipe, Worker
from swarm.backup.tree import Tree
from swarm.backup.unpack import Incomplete, Unpacked, unpack
from swarm.errors import SwarmError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

__all__ = ["Incomplete", "Owners", "Packed", "Sink", "Unpacked", "pack", "stored_sha256", "unpack"]

_BATCH = 1 << 20  # small members are joined to blocks of this size


class Sink(Protocol):
    """Where an archive goes. pack() only writes: the caller commits or aborts."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""


@dataclass(frozen=True)
class Packed:
    """The result: the members, the bytes of the files, and the bytes and checksum of the stored archive.

    `notes` names what was left out. `failures` are the sinks that failed while others went on.
    """

    entries: tuple[Entry, ...]
    size: int
    stored: int
    sha256: str
    notes: tuple[str, ...] = ()
    failures: tuple[tuple[Sink, SwarmError], ...] = ()


def pack(
    root: Path,
    owners: Owners,
    sinks: Sequence[Sink],
    *,
    recipient: str | None,
    level: int = 3,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Packed:
    """Write the archive of a mirror to every sink. `limit` is in bytes per second; `progress` gets bytes of files.

    A sink that fails is left out, and its error is in the result. The last one's error is raised, like every other
    error, after all threads have ended.
    """
    outlet, plain, frames = _Outlet(sinks, limit), Pipe(), Pipe()
    workers = [Worker(lambda: _compress(plain, frames if recipient else outlet, level), plain, frames)]
    if recipient:
        workers.append(Worker(lambda: encrypt(iter(frames), outlet.put, recipient), plain, frames))
    packing = _Packing(plain, progress)
    try:
        with Tree(root, owners) as tree:
            packing.run(tree)
        plain.close()
    except BaseException as error:  # noqa: BLE001 - raised below, after the threads have ended
        plain.fail(error)
        frames.fail(error)
    for worker in workers:
        worker.join()
    if failure := plain.error or frames.error:
        raise failure
    return Packed(
        tuple(packing.entries),
        packing.size,
        outlet.stored,
        outlet.digest.hexdigest(),
        tuple(tree.notes),
        tuple(outlet.failures),
    )


def _compress(plain: Pipe, to: Pipe | _Outlet, level: int) -> None:
    frame = compressor(level, workers=2)
    for block in plain:
        if data := frame.compress(block):
            to.put(data)
    to.put(frame.flush())
    to.close()


class _Packing:
    """Turns the tree into blocks of tar."""

    def __init__(self, plain: Pipe, progress: Callable[[int], None] | None) -> None:
        self._plain, self._progress = plain, progress
        self._batch: list[bytes] = []
        self._pending = 0
        self.entries: list[Entry] = []
        self.size = 0

    def run(self, tree: Tree) -> None:
        """Write every member, the checksums and the end."""
        for entry, data in tree:
            self.entries.append(entry)
            self._add(tar.header(entry))
            if entry.kind == "file":
                for chunk in data:
                    self._add(chunk)
                self._add(tar.padding(entry.size))
                self.size += entry.size
        self._close()

    def _close(self) -> None:
        size = sum(len(line(entry)) for entry in self.entries)
        newest = max((entry.mtime_ns for entry in self.entries), default=0)  # equal trees give equal archives
        self._add(tar.header(Entry(CLOSING, "file", 0o600, newest, "root", "root", size)))
        for entry in self.entries:
            self._add(line(entry))
        self._add(tar.padding(size))
        self._add(tar.END)
        self._flush()

    def _add(self, data: bytes) -> None:
        self._batch.append(data)
        self._pending += len(data)
        if self._pending >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        self._plain.put(self._batch[0] if len(self._batch) == 1 else b"".join(self._batch))
        self._batch, self._pending = [], 0
        if self._progress:
            self._progress(self.size)


class _Outlet:
    """Counts and hashes what is stored, holds the rate, and writes to every sink that still works."""

    def __init__(self, sinks: Sequence[Sink], limit: int | None) -> None:
        self._sinks, self._limit = list(sinks), limit
        self._start = time.monotonic()
        self.digest, self.stored = hashlib.sha256(), 0
        self.failures: list[tuple[Sink, SwarmError]] = []

    def put(self, data: bytes) -> None:
        """Store the next bytes. Raise if the last sink fails."""
        self.digest.update(data)
        self.stored += len(data)
        for sink in tuple(self._sinks):
            try:
                sink.write(data)
            except SwarmError as error:
                self._sinks.remove(sink)
                self.failures.append((sink, error))
                if not self._sinks:
                    raise self.failures[0][1] from None
        if self._limit:
            time.sleep(max(0.0, self._start + self.stored / self._limit - time.monotonic()))

    def close(self) -> None:
        """Do nothing: whoever opened the sinks commits them."""


def stored_sha256(chunks: Iterable[bytes]) -> tuple[str, int]:
    """Return the checksum and the size of a stored archive."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size
