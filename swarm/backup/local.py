"""Look at a mirror on this machine, clean up what an interrupted rsync has left in it, and remove unpacked trees."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

__all__ = [
    "file_counts",
    "is_file",
    "is_folder",
    "marker_of",
    "mtime_of",
    "remove_tree",
    "size_of",
    "sweep",
    "top_names",
]

_DELAYED = ".~tmp~"  # where rsync's --delay-updates keeps new files


def marker_of(mirror: Path) -> Path:
    """Return the file that is there while a mirror is half written."""
    return mirror.with_name(f".{mirror.name}.unfinished")


def top_names(mirror: Path) -> list[str]:
    """Return the names in the mirror, none if there is no mirror."""
    return sorted(path.name for path in mirror.iterdir()) if mirror.is_dir() else []


def file_counts(mirror: Path) -> dict[str, int]:
    """Return the number of files in each top-level entry of the mirror."""
    counts: dict[str, int] = {}
    for name in top_names(mirror):
        path = mirror / name
        counts[name] = sum(len(files) for _, _, files in os.walk(path)) if is_folder(path) else 1
    return counts


def size_of(path: Path) -> int:
    """Return the size of a file, 0 if there is none."""
    return path.lstat().st_size if is_file(path) else 0


def mtime_of(path: Path) -> int | None:
    """Return the modification time of a regular file in nanoseconds, None if it is none."""
    return path.lstat().st_mtime_ns if is_file(path) else None


def is_file(path: Path) -> bool:
    """Whether this is a regular file, and no link to one."""
    return _kind(path, stat.S_IFREG)


def is_folder(path: Path) -> bool:
    """Whether this is a directory, and no link to one."""
    return _kind(path, stat.S_IFDIR)


def _kind(path: Path, kind: int) -> bool:
    try:
        return stat.S_IFMT(path.lstat().st_mode) == kind
    except OSError:
        return False


def sweep(mirror: Path) -> None:
    """Remove the files that a run of rsync has prepared but not put in their places."""
    for folder, folders, _ in os.walk(mirror):
        if _DELAYED in folders:
            folders.remove(_DELAYED)
            shutil.rmtree(Path(folder) / _DELAYED, ignore_errors=True)


def remove_tree(path: Path) -> bool:
    """Remove a directory, also if its modes keep its owner from that. Return False if something of it stays."""
    shutil.rmtree(path, ignore_errors=True)
    if is_folder(path):
        with suppress(OSError):
            path.chmod(0o700)
            for _, folders, _, here in os.fwalk(path):
                for name in folders:
                    if stat.S_ISDIR(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode):  # not a link
                        os.chmod(name, 0o700, dir_fd=here)
        shutil.rmtree(path, ignore_errors=True)
    return not os.path.lexists(path)
