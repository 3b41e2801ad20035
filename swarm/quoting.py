"""The one place where words are quoted for a shell, a remote one above all."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["quote"]


def quote(words: Iterable[str]) -> str:
    """Return `words` as one shell command in which each stays exactly one word."""
    return shlex.join(words)
