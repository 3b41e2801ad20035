"""Parse publishers' checksum files, such as `SHA256SUMS`.

GNU coreutils write `hash  name` or `hash *name`. BSD writes `SHA256 (name) = hash`.
"""

from __future__ import annotations

import re

from swarm.errors import ImageError

__all__ = ["expected"]

_DIGITS = {"sha256": 64, "sha512": 128}
_GNU = re.compile(r"(?P<digest>[0-9a-fA-F]+) [ *](?P<name>.+)")
_BSD = re.compile(r"(?P<algorithm>[A-Za-z0-9/-]+) \((?P<name>.+)\) = (?P<digest>[0-9a-fA-F]+)")


def expected(text: str, file_name: str, algorithm: str) -> str:
    """Return the checksum of `file_name` from the checksum file `text`, in lowercase hexadecimal.

    `algorithm` is "sha256" or "sha512". Lines of other algorithms are skipped. Raise ImageError if the file has
    no checksum for that name, or different ones.
    """
    found = {digest for name, digest in _lines(text, algorithm) if name.removeprefix("./") == file_name}
    if not found:
        raise ImageError(
            f"the publisher's checksum file has no {algorithm} for {file_name}",
            "the publisher may have renamed the image: update swarm",
        )
    if len(found) > 1:
        raise ImageError(
            f"the publisher's checksum file has {len(found)} different checksums for {file_name}",
            "try again later",
        )
    return found.pop()


def _lines(text: str, algorithm: str) -> list[tuple[str, str]]:
    """Return the (file name, digest) pairs of one algorithm."""
    stated = []
    for line in text.splitlines():
        if match := _BSD.fullmatch(line.strip()):
            named = match["algorithm"].lower().replace("-", "").replace("/", "")
            if named != algorithm:
                continue
        elif not (match := _GNU.fullmatch(line.strip())):
            continue
        if len(match["digest"]) == _DIGITS[algorithm]:
            stated.append((match["name"], match["digest"].lower()))
    return stated
