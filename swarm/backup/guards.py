"""What a backup would lose. Pure: given the mirror before and the guest now, return the losses as sentences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from swarm.text import visible

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["After", "Before", "losses"]

_FEW = 10  # rows; a queue that has done its work is no loss


@dataclass(frozen=True)
class Before:
    """The mirror: its number of files, the files in each top-level directory, and the rows of each database's tables.

    None stands for a database whose tables are not known.
    """

    files: int = 0
    folders: Mapping[str, int] = field(default_factory=dict)
    databases: Mapping[str, Mapping[str, int] | None] = field(default_factory=dict)


@dataclass(frozen=True)
class After:
    """The guest: the same, and the number of files that would be deleted. -1 files stand for an excluded directory.

    `leaves` are the top-level files and links, which `folders` has too.
    """

    folders: Mapping[str, int] = field(default_factory=dict)
    deleted: int = 0
    databases: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    leaves: Collection[str] = ()


def losses(before: Before, after: After, max_loss: int) -> list[str]:
    """Return a sentence for each loss; `max_loss` is the percentage of files or rows that may vanish."""
    return [
        *_folders(before, after),
        *_files(before, after, max_loss),
        *(
            f"{visible(path, lines=False)}: {loss}"
            for path, tables in sorted(before.databases.items())
            if after.folders.get(path.partition("/")[0]) != -1
            and (loss := _database(tables, after.databases.get(path), max_loss))
        ),
    ]


def _folders(before: Before, after: After) -> list[str]:
    return [
        f"{visible(name, lines=False)}/ is {_instead(name, after)}"
        f" in the guest; the mirror has {_counted(files, 'file')} in it"
        for name, files in sorted(before.folders.items())
        if files and (name in after.leaves or not after.folders.get(name))
    ]


def _instead(name: str, after: After) -> str:
    if name in after.leaves:  # what a link points to is not backed up
        return "a file or a link instead of a directory"
    return "empty" if name in after.folders else "missing"


def _files(before: Before, after: After, max_loss: int) -> list[str]:
    if after.deleted * 100 <= before.files * max_loss:
        return []
    return [
        f"{after.deleted} of the mirror's {_counted(before.files, 'file')} would be deleted; the limit is {max_loss} %"
    ]


def _database(before: Mapping[str, int] | None, after: Mapping[str, int] | None, max_loss: int) -> str | None:
    had_rows = before is None or any(before.values())
    if after is None:
        return "the database is missing in the guest" if had_rows else None
    if not after and (before is None or before):
        return "the database no longer has any tables"
    if before is None:
        return None
    gone = sorted(name for name, rows in before.items() if rows and name not in after)
    if gone:
        return f"the database has lost the table {visible(gone[0], lines=False)}" + (
            f" and {len(gone) - 1} more" if gone[1:] else ""
        )
    return _rows(before, after, max_loss)


def _rows(before: Mapping[str, int], after: Mapping[str, int], max_loss: int) -> str | None:
    had, lost = sum(before.values()), sum(before.values()) - sum(after.values())
    if _large(lost, had, max_loss):
        return f"the database has lost {lost} of {_counted(had, 'row')}; the limit is {max_loss} %"
    # Small tables may be emptied, like a queue. What other tables have gained does not make up for a large one.
    for name, rows in sorted(before.items()):
        if _large(rows, had, max_loss) and not after[name]:
            return f"the database has lost all {rows} rows of the table {visible(name, lines=False)}"
    return None


def _large(rows: int, of: int, max_loss: int) -> bool:
    return rows >= _FEW and rows * 100 > of * max_loss


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
