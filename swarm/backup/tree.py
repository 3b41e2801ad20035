"""Walk and read a mirror without ever following a symbolic link: its names are the guest's choice."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, Self

from swarm.backup.checksums import CLOSING_FOLDER
from swarm.backup.manifest import Entry
from swarm.errors import Unfit, VerificationFailed
from swarm.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from swarm.backup.manifest import Kind
    from swarm.backup.owners import Owners

__all__ = ["Tree", "open_directory"]

_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def open_directory(root: int, path: str) -> int:
    """Open a directory beneath the descriptor `root`, component by component, without following links."""
    here = os.dup(root)
    for part in path.split("/") if path else ():
        try:
            below = os.open(part, _DIRECTORY, dir_fd=here)
        finally:
            os.close(here)
        here = below
    return here


class Tree:
    """The members of a mirror. Iterating yields (entry, chunks); each member's chunks are read before the next.

    A small file's checksum is in its entry at once. That of a large one is set when its last chunk has been read.
    """

    def __init__(self, root: Path, owners: Owners) -> None:
        self._owners = owners
        self._seen: dict[tuple[int, int], str] = {}
        self.notes: list[str] = []
        try:
            self._root = os.open(root, _DIRECTORY)
        except OSError as error:
            raise Unfit(f"can't open the mirror {root}: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root)

    def __iter__(self) -> Iterator[tuple[Entry, Iterable[bytes]]]:
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            below: list[str] = []
            try:
                yield from self._folder(folder, below)
            except OSError as error:
                name = error.filename if isinstance(error.filename, str) else ""
                path = f"{folder}/{name}".strip("/") or "."
                raise Unfit(f"can't read {_shown(path)} in the mirror: {error.strerror}") from None
            waiting += reversed(below)

    def _folder(self, folder: str, below: list[str]) -> Iterator[tuple[Entry, Iterable[bytes]]]:
        """Yield a directory itself, unless it is the root, and what it contains. Add its subdirectories to `below`."""
        here = open_directory(self._root, folder)
        try:
            if folder:
                yield self._entry(folder, "directory", os.fstat(here)), ()
            with os.scandir(here) as found:
                names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in found)
            for name, is_folder in names:
                path = f"{folder}/{name}" if folder else name
                if path == CLOSING_FOLDER:
                    self.notes.append(f"{path} was left out: archives reserve this name")
                elif is_folder:
                    below.append(path)
                else:
                    yield from self._member(here, name, path)
        finally:
            os.close(here)

    def _member(self, here: int, name: str, path: str) -> Iterator[tuple[Entry, Iterable[bytes]]]:
        try:
            descriptor = os.open(name, _FILE, dir_fd=here)
        except OSError:
            info = os.stat(name, dir_fd=here, follow_symlinks=False)
            if stat.S_ISREG(info.st_mode):
                raise
            yield from self._other(here, name, path, info)
            return
        try:
            info = os.fstat(descriptor)
            if stat.S_ISREG(info.st_mode):
                yield self._file(descriptor, path, info)
            else:
                yield from self._other(here, name, path, info)
        finally:
            os.close(descriptor)

    def _other(
        self, here: int, name: str, path: str, info: os.stat_result
    ) -> Iterator[tuple[Entry, Iterable[bytes]]]:
        if stat.S_ISLNK(info.st_mode):
            yield self._entry(path, "link", info, target=os.readlink(name, dir_fd=here)), ()
        else:
            self.notes.append(f"{_shown(path)} was left out: it is a socket, a pipe or a device")

    def _file(self, descriptor: int, path: str, info: os.stat_result) -> tuple[Entry, Iterable[bytes]]:
        if info.st_nlink > 1:
            first = self._seen.setdefault((info.st_dev, info.st_ino), path)
            if first != path:
                return self._entry(path, "hard", info, target=first), ()
        if info.st_size >= _CHUNK:
            entry = self._entry(path, "file", info, size=info.st_size)
            return entry, _chunks(descriptor, entry, info)
        data = os.read(descriptor, info.st_size + 1)
        if len(data) != info.st_size:
            raise _changed(path)
        digest = hashlib.sha256(data).hexdigest()
        return self._entry(path, "file", info, size=len(data), sha256=digest), (data,)

    def _entry(
        self,
        path: str,
        kind: Kind,
        info: os.stat_result,
        *,
        size: int = 0,
        sha256: str = "",
        target: str = "",
    ) -> Entry:
        owner, group = self._owners.of(path)
        mode = self._owners.mode(path, info.st_mode)
        return Entry(path, kind, mode, info.st_mtime_ns, owner, group, size, sha256, target)


def _chunks(descriptor: int, entry: Entry, info: os.stat_result) -> Iterator[bytes]:
    digest, left = hashlib.sha256(), entry.size
    sparse = info.st_blocks * 512 < info.st_size
    for chunk in _extents(descriptor, entry.size) if sparse else _read(descriptor, entry.size + 1):
        left -= len(chunk)
        if left < 0:
            break
        digest.update(chunk)
        yield chunk
    if left or os.fstat(descriptor).st_size != entry.size:
        raise _changed(entry.path)
    object.__setattr__(entry, "sha256", digest.hexdigest())  # not shared with anybody before its data is read


def _read(descriptor: int, most: int) -> Iterator[bytes]:
    while most and (chunk := os.read(descriptor, min(_CHUNK, most))):
        most -= len(chunk)
        yield chunk


def _extents(descriptor: int, size: int) -> Iterator[bytes]:
    """Yield the content of a sparse file. Holes are not read."""
    at = 0
    while at < size:
        data = _seek(descriptor, at, os.SEEK_DATA, size)
        while at < data:
            chunk = _ZEROS[: min(_CHUNK, data - at)]
            at += len(chunk)
            yield chunk
        end = _seek(descriptor, at, os.SEEK_HOLE, size) if at < size else size
        os.lseek(descriptor, at, os.SEEK_SET)
        for chunk in _read(descriptor, end - at):
            at += len(chunk)
            yield chunk
        if at < end:
            return


def _seek(descriptor: int, at: int, how: int, size: int) -> int:
    try:
        return min(os.lseek(descriptor, at, how), size)
    except OSError:  # no data follows
        return size


def _changed(path: str) -> VerificationFailed:
    return VerificationFailed(
        f"{_shown(path)} in the mirror changed while it was read", "run the command again"
    )


def _shown(path: str) -> str:
    return visible(path, lines=False)
