"""Which entries of a backup a person means by the paths of `--path`."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from swarm.errors import UsageError
from swarm.text import visible

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

__all__ = ["named", "units", "within"]


def named(text: str, state_dir: str, known: Collection[str]) -> list[str]:
    """Return the paths that `text` lists, separated by commas, of the `known` ones.

    A name may contain commas and begin or end with blanks: the longest text that is a known path counts. A path may
    be absolute in the guest, or relative to the state directory. Raise UsageError for one that is not known.
    """
    found, parts = list[str](), text.split(",")
    most = 1 + state_dir.count(",") + max((path.count(",") for path in known), default=0)
    while parts:
        ends = range(min(most, len(parts)), 0, -1)
        match = next(((end, path) for end in ends if (path := _path(parts[:end], state_dir, known))), None)
        if match is None and parts[0].strip():
            raise _unknown(parts[0].strip())
        end, path = match or (1, "")
        found += [path] if path else []
        parts = parts[end:]
    if not found:
        raise UsageError("--path names no file", "--path FILE, relative to the state directory or absolute")
    return found


def _path(parts: Sequence[str], state_dir: str, known: Collection[str]) -> str:
    """Return the known path that these parts of the text are, or nothing."""
    text = ",".join(parts)
    forms = [_relative(each, state_dir) for each in (text, text.strip())]
    return next((form for form in (*forms, forms[1].strip("/")) if form in known), "")


def units(paths: Iterable[str], state_dir: str, known: Collection[str]) -> tuple[str, ...]:
    """Return the paths relative to the state directory, without those beneath others. Raise UsageError for others."""
    chosen = {_relative(path, state_dir) for path in paths}
    for path in sorted(chosen):
        if path not in known:
            raise _unknown(path)
    return tuple(path for path in sorted(chosen) if not within(path, chosen - {path}))


def within(path: str, folders: Iterable[str]) -> bool:
    """Whether a path is one of `folders`, or beneath one."""
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _relative(path: str, state_dir: str) -> str:
    return str(PurePosixPath(path.removeprefix(f"{state_dir}/")))


def _unknown(path: str) -> UsageError:
    return UsageError(
        f"{visible(path, lines=False)} is not in this backup", "./inv backup.find searches all of them"
    )
