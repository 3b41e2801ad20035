"""The command lines that the documents show, as a reader would type them."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from swarm.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DOCUMENTS", "typed"]

DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
# After ./inv or inv: everything up to a remark, a pipe, a redirection, or the end of a $(…).
_LINE = re.compile(r"(?:^|[\s(])(?:[\w./]*/)?inv (?=[a-z-])((?:'[^']*'|\"[^\"]*\"|[^#|>)\n])+)", re.MULTILINE)


def typed(text: str) -> Iterator[tuple[str, ...]]:
    """Yield the words after ./inv of each command in blocks of code and in code spans."""
    blocks = _BLOCK.findall(text)
    spans = _SPAN.findall(_BLOCK.sub("", text))
    for code in (*blocks, *spans):
        for found in _LINE.finditer(code):
            yield tuple(shlex.split(found[1].replace("[-- words]", "")))
