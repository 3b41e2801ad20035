"""What people are shown of a guest's answers: without secrets, within bounds, and as text."""

from __future__ import annotations

import difflib
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from swarm.text import LONGEST, clipped

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["brief", "mask", "unified"]

# Surrogates that stand for no byte. JSON may hold them, and "surrogateescape" cannot encode them.
_LONE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_SHORTEST_LINE = 8  # characters; shorter lines of a secret are words such as "}" or "key:"
_MOST_LINES = 20_000  # of both sides of a diff; comparing takes at worst quadratic time, here about a second


def mask(text: str, hidden: Iterable[str]) -> str:
    """Return `text` with every secret replaced by dots. Bytes that were not UTF-8 become replacement characters.

    A secret is also found as JSON writes it, and one of several lines line by line.
    """
    forms = {form for secret in hidden if secret for form in _forms(secret)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "••••")
    text = _LONE.sub("\ufffd", text)
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@lru_cache(maxsize=256)
def _forms(secret: str) -> tuple[str, ...]:
    lines = [line.strip() for line in secret.splitlines()] if "\n" in secret else []
    parts = [secret, *(line for line in lines if len(line) >= _SHORTEST_LINE)]
    return tuple(dict.fromkeys(form for part in parts for form in (part, json.dumps(part)[1:-1])))


def brief(text: str, hidden: Iterable[str] = (), *, longest: int = LONGEST) -> str:
    """Return `text` masked, and cut if it has more than `longest` characters."""
    return clipped(mask(text, hidden), longest)


def unified(before: str, after: str, name: str) -> str:
    """Return the unified diff of a file's contents, with two lines of context; empty if they are equal."""
    old, new = before.splitlines(), after.splitlines()
    if len(old) + len(new) > _MOST_LINES and old != new:
        return f"{name}: {len(old)} lines now, {len(new)} wanted: too many to compare"
    return "\n".join(difflib.unified_diff(old, new, f"{name} (now)", f"{name} (wanted)", lineterm="", n=2))
