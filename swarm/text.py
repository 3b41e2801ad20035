"""Text for people and for shells: durations, sizes, quoting."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import PurePath

__all__ = ["amount", "quote", "seconds", "visible"]


def seconds(value: float) -> str:
    """Return a duration given in seconds as people read it: '0.4 s', '12 s', '2 min 05 s'."""
    if value < 9.95:  # noqa: PLR2004 - below ten seconds the tenths are of interest; from here on they round to ten
        return f"{value:.1f} s"
    whole = round(value)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"  # noqa: PLR2004 - seconds of a minute


def amount(count: int) -> str:
    """Return a number of bytes as people read it: '824.1 MB'."""
    from rich.filesize import decimal

    return decimal(count)


def quote(*words: str | PurePath) -> str:
    """Return `words` as one shell command in which each stays exactly one word. Every remote argument is quoted here."""
    return shlex.join(str(word) for word in words)


def visible(text: str, *, lines: bool = False) -> str:
    """Return `text` with control characters shown as escapes, like \\x1b; with `lines`, newlines and tabs stay."""
    kept = "\n\t" if lines else ""
    return "".join(sign if sign.isprintable() or sign in kept else _escaped(sign) for sign in text)


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")
