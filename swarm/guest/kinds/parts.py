"""What several kinds of steps share: facts about files, and shell that writes one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from swarm.guest.engine.script import as_user
from swarm.text import quote

if TYPE_CHECKING:
    from swarm.guest.engine.step import Step

__all__ = ["ABSENT", "STAMPS", "body", "by_user", "content_put", "fields", "head", "octal", "rows", "sha256"]

ABSENT = "absent"  # the fact of a thing that does not exist
STAMPS = "/var/lib/swarm/loaded"  # checksums of the files that a running service was started with


def head(fact: str) -> str:
    """Return a fact's first line: a file's state."""
    return fact.partition("\n")[0]


def body(fact: str) -> str:
    """Return what follows a fact's first line: a file's content."""
    return fact.partition("\n")[2]


def fields(fact: str, separator: str) -> dict[str, str]:
    """Return a fact of lines 'KEY SEPARATOR VALUE' as a dictionary."""
    return {key: value for key, _, value in (row.partition(separator) for row in fact.splitlines())}


def rows(content: str) -> list[str]:
    """Return the lines of a file. str.splitlines() would also split them, at a form feed for example."""
    return content.removesuffix("\n").split("\n") if content else []


def sha256(content: str) -> str:
    """Return the checksum of a file with this content, in hexadecimal."""
    return hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()


def octal(mode: str) -> str:
    """Return a file mode as stat(1) prints it: without leading zeros."""
    return f"{int(mode, 8):o}"


def content_put(path: str, content: str, mode: str, owner: str = "root", group: str = "root") -> str:
    """Return shell that writes a whole file atomically, and creates its folder if it is missing."""
    folder = quote(str(PurePosixPath(path).parent))
    put = f"put {quote(path, mode, owner, group)}"
    return f"[ -d {folder} ] || mkdir -p -- {folder}\nprintf '%s' {quote(content)} | {put}"


def by_user(name: str, step: Step) -> Step:
    """Return the same step, read and changed as the user `name`. If that user does not exist, the thing is absent."""
    apply = step.apply

    def apply_by_user(fact: str) -> str | None:
        script = apply(fact)
        return None if script is None else as_user(name, script)

    return replace(step, apply=apply_by_user, reader=name, unread=ABSENT)
