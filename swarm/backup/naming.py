"""The names of archives and of the objects that belong to them.

An archive `zap-20261125t030000z` is three objects: the archive itself, a clear summary, and the manifest. The
manifest is written last: an archive without a manifest does not count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

__all__ = ["Name", "parse"]

_STAMP = "%Y%m%dt%H%M%Sz"
# Names are matched as a whole, never by prefix: `zap-2` is another host than `zap`.
_OBJECT = re.compile(
    r"(?P<host>[a-z0-9][a-z0-9_-]{0,31})-(?P<stamp>\d{8}t\d{6}z)"
    r"\.(?P<part>tar\.zst|summary\.json|summary\.json\.sig|manifest\.json\.zst)(?P<age>\.age)?"
)


@dataclass(frozen=True, order=True)
class Name:
    """One archive of one host, created at `created` (UTC, whole seconds)."""

    host: str
    created: datetime
    encrypted: bool = False

    def __str__(self) -> str:
        return f"{self.host}-{self.created.strftime(_STAMP)}"

    @property
    def archive(self) -> str:
        """The object that holds the files."""
        return f"{self}.tar.zst{self._suffix}"

    @property
    def manifest(self) -> str:
        """The object that lists the files. It is written last."""
        return f"{self}.manifest.json.zst{self._suffix}"

    @property
    def summary(self) -> str:
        """The object with counts, sizes and checksums, which is never encrypted."""
        return f"{self}.summary.json"

    @property
    def signature(self) -> str:
        """The summary's SSH signature."""
        return f"{self}.summary.json.sig"

    @property
    def objects(self) -> tuple[str, ...]:
        """All objects, in the order in which they are deleted: without its manifest, an archive does not count."""
        return self.manifest, self.signature, self.summary, self.archive

    @property
    def _suffix(self) -> str:
        return ".age" if self.encrypted else ""


def parse(name: str) -> tuple[Name, str] | None:
    """Return the archive that an object's name belongs to, and the part: 'tar.zst', 'manifest.json.zst' or another.

    Return None for the name of anything else. Summaries do not tell whether their archive is encrypted.
    """
    if not (match := _OBJECT.fullmatch(name)):
        return None
    if match["age"] and match["part"].startswith("summary"):
        return None
    try:
        created = datetime.strptime(match["stamp"], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
    return Name(match["host"], created, bool(match["age"])), match["part"]
