"""The closing member of an archive: checksums that `sha256sum -c` reads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarm.backup.manifest import Entry

__all__ = ["CLOSING", "CLOSING_FOLDER", "line"]

CLOSING_FOLDER = ".swarm-archive"
CLOSING = f"{CLOSING_FOLDER}/SHA256SUMS"
_ESCAPES = ((b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\r", b"\\r"))


def line(entry: Entry) -> bytes:
    """Return the line of a file; nothing for other kinds. A name with a newline is escaped as sha256sum does it."""
    if entry.kind != "file":
        return b""
    name = os.fsencode(entry.path)
    escaped = name
    for character, escape in _ESCAPES:
        escaped = escaped.replace(character, escape)
    start = b"\\" if escaped != name else b""
    return b"%s%s  ./%s\n" % (start, entry.sha256.encode("ascii"), escaped)
