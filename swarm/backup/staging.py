"""Write members beneath a directory: nothing is ever opened through a link, replaced or left half described."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Self

from swarm.backup.tree import open_directory
from swarm.errors import Unfit
from swarm.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from swarm.backup.manifest import Entry

__all__ = ["SPARSE", "Staging"]

_HOLE = 64 << 10  # runs of zero bytes of this size become holes
_ZEROS = bytes(_HOLE)
SPARSE = 1 << 20  # bytes; smaller files are written without holes
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Staging:
    """An existing directory that members are written into. Modes and times of directories are set by finish().

    Whatever its mode in the archive, the owner may read everything: rsync takes it from here to the guest.
    """

    def __init__(self, into: Path) -> None:
        self._into = into
        self._folders: dict[str, Entry] = {}  # every directory of the archive so far
        self._made: dict[str, None] = {"": None}
        self._files: set[str] = set()
        self._open = ("", -1)  # the directory that was used last, and its descriptor
        try:
            self._root = os.open(into, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Unfit(f"can't open {into}: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open[1] >= 0:
            os.close(self._open[1])
        os.close(self._root)

    def expect(self, entry: Entry) -> None:
        """Remember a directory, which is created when it is selected or something beneath it is."""
        self._folders[entry.path] = entry

    def directory(self, entry: Entry) -> None:
        """Create a directory that only its owner can enter. finish() sets its mode."""
        with _Naming(self._into, entry):
            self._make(entry.path)

    def file(self, entry: Entry, data: Iterable[bytes]) -> None:
        """Write a regular file. Long runs of zero bytes become holes."""
        with _Naming(self._into, entry):
            descriptor = os.open(_name(entry), _NEW, 0o600, dir_fd=self._parent(entry.path))
        try:
            for chunk in data:
                with _Naming(self._into, entry):
                    _write(descriptor, chunk, sparse=entry.size >= SPARSE)
            with _Naming(self._into, entry):
                if entry.size >= SPARSE:
                    os.ftruncate(descriptor, entry.size)
                os.fchmod(descriptor, entry.mode | stat.S_IRUSR)
                os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(descriptor)
        self._files.add(entry.path)

    def hard(self, entry: Entry) -> bool:
        """Create a hard link. Return False if the file that it names was not written here."""
        if entry.target not in self._files:
            return False
        folder, _, name = entry.target.rpartition("/")
        with _Naming(self._into, entry):
            source = open_directory(self._root, folder)
            try:
                parent = self._parent(entry.path)
                os.link(name, _name(entry), src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(source)
        return True

    def link(self, entry: Entry) -> None:
        """Create a symbolic link."""
        with _Naming(self._into, entry):
            parent = self._parent(entry.path)
            os.symlink(entry.target, _name(entry), dir_fd=parent)
            times = (entry.mtime_ns, entry.mtime_ns)
            os.utime(_name(entry), ns=times, dir_fd=parent, follow_symlinks=False)

    def finish(self) -> None:
        """Set the modes and times of the directories, the deepest first."""
        for path in sorted(self._made, key=lambda made: made.count("/"), reverse=True):
            entry = self._folders.get(path)
            if entry is None:
                continue
            with _Naming(self._into, entry):
                descriptor = open_directory(self._root, path)
                try:
                    os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
                    os.fchmod(descriptor, entry.mode | stat.S_IRUSR | stat.S_IXUSR)
                finally:
                    os.close(descriptor)

    def _parent(self, path: str) -> int:
        folder = path.rpartition("/")[0]
        if self._open[1] < 0 or self._open[0] != folder:
            self._make(folder)
            descriptor = open_directory(self._root, folder)
            if self._open[1] >= 0:
                os.close(self._open[1])
            self._open = (folder, descriptor)
        return self._open[1]

    def _make(self, path: str) -> None:
        """Create a directory and those above it that are not there because they were not selected."""
        if path in self._made:
            return
        folder, _, name = path.rpartition("/")
        self._make(folder)
        parent = open_directory(self._root, folder)
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        finally:
            os.close(parent)
        self._made[path] = None


class _Naming:
    """Turns an OSError into one that names the member, and the file system if it is full."""

    def __init__(self, into: Path, entry: Entry) -> None:
        self._into, self._entry = into, entry

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if not isinstance(error, OSError):
            return
        path = visible(self._entry.path, lines=False)
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise Unfit(f"the disk of {self._into} is full (at {path})", "free some space there") from None
        raise Unfit(f"can't write {path} in {self._into}: {error.strerror}") from None


def _name(entry: Entry) -> str:
    return entry.path.rpartition("/")[2]


def _write(descriptor: int, chunk: bytes, *, sparse: bool) -> None:
    if not sparse or _ZEROS not in chunk:
        _all(descriptor, chunk)
        return
    for at in range(0, len(chunk), _HOLE):
        part = chunk[at : at + _HOLE]
        if part == _ZEROS:
            os.lseek(descriptor, _HOLE, os.SEEK_CUR)
        else:
            _all(descriptor, part)


def _all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
