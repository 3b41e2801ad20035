"""Text for people and for shells: durations, sizes, quoting, and control characters made visible."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import PurePath

__all__ = ["LONGEST", "amount", "clipped", "quote", "seconds", "visible"]

LONGEST = 300  # characters of what is quoted in a sentence; enough for two paths of usual length


def seconds(value: float) -> str:
    """Format a duration given in seconds: '0.4 s', '12 s', '2 min 05 s'."""
    if value < 9.95:  # noqa: PLR2004 - show tenths below ten seconds; 9.95 and above round to '10 s'
        return f"{value:.1f} s"
    whole = round(value)
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def amount(count: int) -> str:
    """Format a number of bytes: '824.1 MB'."""
    from rich.filesize import decimal

    return decimal(count)


def clipped(text: str, longest: int = LONGEST) -> str:
    """Return `text`, cut if it has more than `longest` characters, as a line from a guest may."""
    return text if len(text) <= longest else f"{text[:longest]}…"


def quote(*words: str | PurePath) -> str:
    """Join `words` into one shell command that keeps each of them one argument. Every remote argument passes here."""
    return shlex.join(str(word) for word in words)


def visible(text: str, *, lines: bool = True) -> str:
    r"""Replace every character that a terminal would act on, or not show, by an escape such as `\x1b` or `\u202e`.

    Printable is what str.isprintable says, so that control characters, bidirectional overrides, zero-width
    characters and lone surrogates are all escaped. Tabs become spaces. Line ends are kept, and escaped too if
    `lines` is false.
    """
    if text.isprintable():
        return text
    rows = re.split(r"\r*\n", text)
    shown = [row if row.isprintable() else _escaped(row.expandtabs()) for row in rows]
    return ("\n" if lines else r"\n").join(shown)


def _escaped(row: str) -> str:
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in row
    )
