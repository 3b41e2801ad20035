"""apt's sources that others have written: which of their entries are for the same repository, and how to disable them.

Two entries for the same URI and suite with different keys stop apt altogether ("Conflicting values set for option
Signed-By"), and with the same key they are a warning at each update.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Archive", "Rival", "without"]

_LINE = re.compile(
    r"\s*(deb|deb-src)\s+(\[[^\]\n]*\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>[^#\n]*)"
)
_FIELD = re.compile(r"(?P<key>[A-Za-z0-9-]+)\s*:(?P<value>.*)")


@dataclass(frozen=True)
class Archive:
    """What makes two entries the same: URI and suite. `components` are those that swarm's own entry has."""

    uri: str
    suite: str
    components: frozenset[str]

    def same(self, uri: str, suite: str) -> bool:
        """Return whether apt takes an entry for the same as this one."""
        return (uri.rstrip("/"), suite) == (self.uri.rstrip("/"), self.suite)


class Rival(Exception):
    """An entry that cannot be disabled without losing something else. The text says what."""


def without(path: str, content: str, archive: Archive, note: str) -> str:
    """Return the content of the sources file `path` with every entry for `archive` disabled, below the comment `note`.

    Raise Rival for an entry that also has something else.
    """
    if path.endswith(".sources"):
        parts = re.split(r"(\n[ \t]*(?:\n[ \t]*)*\n)", content)  # stanzas, and the empty lines between them
        return "".join(_stanza(path, part, archive, note) for part in parts)
    return "".join(_line(path, row, archive, note) for row in content.splitlines(keepends=True))


def _line(path: str, row: str, archive: Archive, note: str) -> str:
    entry = _LINE.match(row)
    if not entry or not archive.same(entry["uri"], entry["suite"]):
        return row
    _only(path, archive, entry["components"].split())
    return f"# {note}: {row}"


def _stanza(path: str, text: str, archive: Archive, note: str) -> str:
    fields = _fields(text)
    uris, suites = fields.get("uris", "").split(), fields.get("suites", "").split()
    if fields.get("enabled", "yes").strip().lower() in {"no", "false", "without", "off", "disable", "0"}:
        return text
    if not any(archive.same(uri, suite) for uri in uris for suite in suites):
        return text
    if len(uris) > 1 or len(suites) > 1:
        raise Rival(f"in one entry of {path} with other URIs or suites")
    _only(path, archive, fields.get("components", "").split())
    kept = re.sub(r"(?im)^enabled\s*:.*(\n[ \t]+.*)*\n?", "", text)
    start = len(kept) - len(kept.lstrip("\n"))
    return f"{kept[:start]}# {note}:\nEnabled: no\n{kept[start:]}"


def _fields(text: str) -> dict[str, str]:
    """The fields of a stanza, by their name in lower case."""
    found: dict[str, str] = {}
    key = ""
    for row in text.splitlines():
        if row.startswith("#"):
            continue
        if row[:1] in {" ", "\t"} and key:
            found[key] += f" {row.strip()}"
        elif match := _FIELD.match(row):
            key = match["key"].lower()
            found[key] = match["value"].strip()
    return found


def _only(path: str, archive: Archive, components: list[str]) -> None:
    if more := [name for name in components if name not in archive.components]:
        raise Rival(f"in {path} with the components {' '.join(more)}")
