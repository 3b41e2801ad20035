"""A destination that is a directory: a disk, or a mounted network share."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

from swarm.errors import RemoteError, SwarmError, Unfit
from swarm.files import private_dir
from swarm.paths import backups_dir
from swarm.s3 import Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["Directory"]

_CHUNK = 1 << 20
_SCRATCH = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{16}\.part")
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Directory:
    """A directory of archives. `owns` says which names are ours: only their abandoned scratch files are removed."""

    def __init__(self, path: Path, *, owns: Callable[[str], bool] = lambda _name: False) -> None:
        self.path, self._owns = path, owns
        self.url = f"file://{path}"

    def check(self) -> None:
        """Raise Unfit unless the directory exists and can be written. Only the project's own one is created."""
        with self._explained("use"):
            if self.path == backups_dir():
                private_dir(self.path)
            elif not self.path.is_dir():
                raise Unfit(
                    f"the backup directory {self.path} does not exist",
                    f"create it, or mount the disk that belongs there: mkdir -p {self.path}",
                )
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise Unfit(f"can't write to the backup directory {self.path}", "correct its owner or its mode")

    def objects(self) -> list[Stored]:
        """Return every regular file, sorted. Our scratch files do not count."""
        if self.path == backups_dir() and not self.path.exists():
            return []
        found = []
        with self._explained("list"), os.scandir(self.path) as entries:
            for entry in entries:
                if not entry.is_file(follow_symlinks=False) or _SCRATCH.fullmatch(entry.name):
                    continue
                # The backup of another host may remove it meanwhile.
                with contextlib.suppress(FileNotFoundError):
                    info = entry.stat(follow_symlinks=False)
                    modified = datetime.fromtimestamp(info.st_mtime, UTC)
                    found.append(Stored(entry.name, info.st_size, modified))
        return sorted(found)

    def writer(self, name: str) -> _Scratch:
        """Begin a file."""
        self.check()
        return _Scratch(self, name)

    def put(self, name: str, data: bytes, *, fresh: bool = False) -> None:
        """Store a small file."""
        self.check()
        with _Scratch(self, name, fresh=fresh) as scratch:
            scratch.write(data)
            scratch.commit()

    def read(self, name: str) -> Iterator[bytes]:
        """Yield a file's content."""
        with self._explained("read", name):
            descriptor = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                info = os.fstat(descriptor)
                if not stat.S_ISREG(info.st_mode):
                    raise RemoteError(f"{self.path / name} is not a regular file")
                left = info.st_size
                while chunk := os.read(descriptor, _CHUNK):
                    left -= len(chunk)
                    yield chunk
            finally:
                os.close(descriptor)
        if left:
            raise RemoteError(f"{self.path / name} changed while it was read", "run the command again")

    def exists(self, name: str) -> bool:
        """Return whether a file exists."""
        with self._explained("look up", name):
            return (self.path / name).is_file() and not (self.path / name).is_symlink()

    def retained(self, name: str) -> datetime | None:  # noqa: ARG002 - as in Destination
        """Return None: directories know no locks."""
        return None

    def delete(self, name: str) -> datetime | None:
        """Delete a file. Directories know no locks."""
        with self._explained("delete", name), contextlib.suppress(FileNotFoundError):
            (self.path / name).unlink()
        return None

    def sweep(self, *, age: timedelta = timedelta(days=1)) -> int:
        """Remove our scratch files that are older than `age`. Return their number."""
        count = 0
        with self._explained("clean up"), os.scandir(self.path) as entries:
            for entry in entries:
                match = _SCRATCH.fullmatch(entry.name)
                if not match or not self._owns(match["name"]) or not entry.is_file(follow_symlinks=False):
                    continue
                if entry.stat(follow_symlinks=False).st_mtime < time.time() - age.total_seconds():
                    (self.path / entry.name).unlink()
                    count += 1
        return count

    @contextlib.contextmanager
    def _explained(self, action: str, name: str = "") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise problem(error, action, self.path / name if name else self.path) from None


def problem(error: OSError, action: str, path: Path) -> SwarmError:
    """Return the error for a failed operation on a file of a destination."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Unfit(f"the disk of {path.parent} is full", "free some space there, or lower backup.keep")
    if error.errno == errno.ENOENT:
        return RemoteError(f"can't {action} {path}: it does not exist")
    return RemoteError(f"can't {action} {path}: {error.strerror or error}")


class _Scratch:
    """A file beside its final name, which it gets once it is complete and on the disk."""

    def __init__(self, directory: Directory, name: str, *, fresh: bool = False) -> None:
        self._final, self._fresh = directory.path / name, fresh
        self._path = directory.path / f".{name}.{secrets.token_hex(8)}.part"
        with self._explained():
            self._descriptor = os.open(self._path, _NEW, 0o600)

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        with self._explained():
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]

    def commit(self) -> None:
        """Write everything to the disk and give the file its name."""
        with self._explained():
            os.fsync(self._descriptor)
            if self._fresh:
                self._link()
            else:
                self._path.replace(self._final)
            _sync(self._final.parent)
        self._close()

    def abort(self) -> None:
        """Remove the scratch file."""
        if self._descriptor >= 0:
            self._close()
            with contextlib.suppress(OSError):
                self._path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    def _link(self) -> None:
        """Give the file a name that must be free, also where hard links are not supported."""
        try:
            os.link(self._path, self._final)
        except FileExistsError:
            raise RemoteError(f"{self._final} exists already", "run the command again") from None
        except OSError:
            if self._final.exists():
                raise RemoteError(f"{self._final} exists already", "run the command again") from None
            self._path.replace(self._final)
        else:
            self._path.unlink()

    def _close(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise problem(error, "write", self._final) from None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # some network file systems can't
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
