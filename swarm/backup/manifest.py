"""The manifest of an archive: every file with its checksum, every database with its tables. And its clear summary."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from swarm.errors import VerificationFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Difference", "Entry", "Kind", "Manifest", "Summary", "Sums", "compare", "difference", "find"]

Kind = Literal["file", "directory", "link", "hard"]

FORMAT = 1  # raised when an older swarm could misread a manifest
# What reading one may raise. JSON may be nested too deeply, and Python's has infinite numbers, which are no counts.
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Entry:
    """One member of an archive.

    `path` is relative to the state directory. Bytes of a name that are not UTF-8 are lone surrogates, as with
    os.fsdecode. `target` is that of a symbolic link, or the path of the first name of a hard link. Owners are names.
    """

    path: str
    kind: Kind
    mode: int
    mtime_ns: int
    owner: str
    group: str
    size: int = 0
    sha256: str = ""
    target: str = ""


@dataclass(frozen=True)
class Manifest:
    """What an archive contains. `databases` maps the path of each SQLite database to the rows of its tables."""

    host: str
    created: str
    user: str
    entries: tuple[Entry, ...]
    databases: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    exclude: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> dict[str, Entry]:
        """The members by their paths."""
        return {entry.path: entry for entry in self.entries}

    def to_bytes(self) -> bytes:
        """Return the manifest as JSON in ASCII."""
        data = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "entries"}
        names = [each.name for each in fields(Entry)]
        rows = [[getattr(entry, name) for name in names] for entry in self.entries]
        return json.dumps({"format": FORMAT, **data, "fields": names, "entries": rows}).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read a manifest. Raise VerificationFailed if it is malformed."""
        try:
            values = json.loads(data)
            if values["format"] != FORMAT:
                raise VerificationFailed(
                    f"the manifest has format {str(values['format'])[:20]}, which this version of swarm can't read",
                    "update swarm",
                )
            names = values["fields"]
            entries = tuple(_entry(dict(zip(names, row, strict=True))) for row in values["entries"])
            databases = {
                str(path): {str(table): int(rows) for table, rows in tables.items()}
                for path, tables in values["databases"].items()
            }
            return cls(
                host=str(values["host"]),
                created=str(values["created"]),
                user=str(values["user"]),
                entries=entries,
                databases=databases,
                exclude=tuple(map(str, values["exclude"])),
                versions={str(name): str(version) for name, version in values["versions"].items()},
                notes=tuple(map(str, values["notes"])),
            )
        except _MALFORMED as error:
            raise VerificationFailed(f"the manifest is malformed ({type(error).__name__})") from None


def _entry(values: dict[str, Any]) -> Entry:
    entry = Entry(**values)
    texts = (entry.path, entry.owner, entry.group, entry.sha256, entry.target)
    numbers = (entry.mode, entry.mtime_ns, entry.size)
    if not all(isinstance(each, str) for each in texts) or not all(type(each) is int for each in numbers):
        raise TypeError
    if entry.kind not in {"file", "directory", "link", "hard"}:
        raise ValueError
    return entry


class Sums(NamedTuple):
    """The SHA-256 of an archive and of its manifest, as stored: encrypted, if the archive is."""

    archive: str
    manifest: str


@dataclass(frozen=True)
class Summary:
    """What anybody may know about an archive: numbers and checksums, no names of files. It is never encrypted."""

    host: str
    created: str
    files: int
    size: int  # bytes of the files
    stored: int  # bytes of the archive
    sha256: str
    manifest_sha256: str
    recipient: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def sums(self) -> Sums:
        """What identifies the archive."""
        return Sums(self.sha256, self.manifest_sha256)

    def to_bytes(self) -> bytes:
        """Return the summary as JSON."""
        return (json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n").encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> Summary:
        """Read a summary. Raise VerificationFailed if it is malformed."""
        try:
            values = json.loads(data)
            return cls(
                host=str(values["host"]),
                created=str(values["created"]),
                files=int(values["files"]),
                size=int(values["size"]),
                stored=int(values["stored"]),
                sha256=str(values["sha256"]),
                manifest_sha256=str(values["manifest_sha256"]),
                recipient=None if values.get("recipient") is None else str(values["recipient"]),
                versions={str(name): str(version) for name, version in values["versions"].items()},
            )
        except _MALFORMED as error:
            raise VerificationFailed(f"the summary is malformed ({type(error).__name__})") from None


@dataclass(frozen=True)
class Difference:
    """How one manifest differs from an older one: the paths, sorted."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def to_json(self) -> dict[str, Any]:
        """Return the difference as plain data."""
        return asdict(self)


def difference(older: Manifest, newer: Manifest) -> Difference:
    """Return how `newer` differs from `older` in content, kind, mode, owner and target. Times are not compared."""

    def shown(entry: Entry) -> tuple[object, ...]:
        return entry.kind, entry.mode, entry.owner, entry.group, entry.size, entry.sha256, entry.target

    before, after = older.files, newer.files
    changed = [path for path in before.keys() & after.keys() if shown(before[path]) != shown(after[path])]
    return Difference(
        tuple(sorted(after.keys() - before.keys())),
        tuple(sorted(before.keys() - after.keys())),
        tuple(sorted(changed)),
    )


def compare(manifest: Manifest, found: Iterable[Entry]) -> list[str]:
    """Return a sentence for each difference between what a manifest lists and what was `found`; none if all is well."""
    expected, problems = manifest.files, []
    for entry in found:
        wanted = expected.pop(entry.path, None)
        if wanted is None:
            problems.append(f"{entry.path}: not in the manifest")
        elif problem := _problem(wanted, entry):
            problems.append(f"{entry.path}: {problem}")
    return problems + [f"{path}: missing" for path in sorted(expected)]


def _problem(wanted: Entry, entry: Entry) -> str | None:
    for name in ("kind", "size", "sha256", "target", "mode", "mtime_ns", "owner", "group"):
        if name == "size" and entry.kind != "file":
            continue
        expected, actual = getattr(wanted, name), getattr(entry, name)
        if expected != actual and name == "sha256":
            return "the content differs"
        if expected != actual:
            return f"{name} is {actual}, expected {expected}"
    return None


def find(manifest: Manifest, pattern: str) -> list[Entry]:
    """Return the entries whose path contains `pattern`, or matches it as a shell pattern."""
    from fnmatch import fnmatchcase

    return [entry for entry in manifest.entries if pattern in entry.path or fnmatchcase(entry.path, pattern)]
