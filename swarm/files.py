"""Write files completely or not at all, readable by as few users as possible."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["private_dir", "rewrite", "write_atomically"]


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
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
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
