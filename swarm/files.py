"""Write files completely or not at all, readable by as few users as possible."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["private_dir", "rewrite", "write_atomically", "write_new"]


def private_dir(path: Path) -> Path:
    """Create a folder, and its parents, that only its owner can enter. Return it. One that is there keeps its mode."""
    try:
        path.mkdir(mode=0o700)
    except FileNotFoundError:
        private_dir(path.parent)
        return private_dir(path)
    except FileExistsError:
        if not path.is_dir():
            raise
        return path
    path.chmod(0o700)  # whatever the umask has left
    return path


def rewrite(path: Path, text: str) -> None:
    """Replace the text of a file that a person may own or link to: its mode and owner stay, and a link stays a link."""
    target = Path(os.path.realpath(path))
    state = target.stat()
    owner = (state.st_uid, state.st_gid)
    write_atomically(target, text, mode=stat.S_IMODE(state.st_mode), owner=owner)


def write_atomically(
    path: Path, text: str, mode: int = 0o644, *, owner: tuple[int, int] | None = None
) -> None:
    """Replace a file in one step. At no moment can more users read it than `mode` allows.

    It gets the `owner`, user and group, where that is permitted.
    """
    descriptor, name = tempfile.mkstemp(
        prefix=f".{path.name}.", dir=path.parent
    )  # readable by its owner alone
    scratch = Path(name)
    try:
        with _named(path), os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if owner:
                with suppress(PermissionError):
                    os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)  # Ctrl-C may come right after the replacement
        raise


def write_new(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file that is not there yet, or leave none behind. Raise FileExistsError if there is one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with _named(path), os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        path.unlink()
        raise


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Add the file's name to an error in the block: a write to a full disk has none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
