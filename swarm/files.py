"""Files and directories that are written completely or not at all, and readable by as few as possible."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["private_dir", "write_atomically"]


def private_dir(path: Path) -> Path:
    """Make a folder (and its parents) that only its owner can enter, and return it."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file so that it is there whole or not at all, and at no moment readable by more than `mode` allows."""
    descriptor, name = tempfile.mkstemp(
        prefix=f".{path.name}.", dir=path.parent
    )  # a name of its own, readable by its owner alone
    scratch = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        scratch.replace(path)
    except BaseException:
        scratch.unlink()
        raise
