"""What this machine remembers about a host's backups: the last run, the archives it has verified, and the last drill.

An archive counts as verified only on this record's word: age does not say who encrypted an archive, so its
checksum is kept here, where only the user who runs swarm can write.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from swarm import history
from swarm.errors import VerificationFailed
from swarm.files import private_dir, write_atomically
from swarm.paths import state_dir

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.backup.manifest import Sums

__all__ = ["Record", "Result", "Verified", "finish", "folder", "load", "save"]

Result = Literal["success", "warning", "failure"]
Verified = Literal["ciphertext", "content"]

_FORMAT = 1
_LATEST = 1e11  # seconds since 1970: the year 5138


@dataclass
class Record:
    """The memory of one host's backups. Times are seconds since 1970.

    `dirty` is true from the moment the mirror may change until an archive of it has been verified. `archives` maps the
    name of each archive to its SHA-256, that of its manifest and, for each destination, how far it was verified there.
    """

    dirty: bool = True
    started: float = 0.0
    ended: float = 0.0
    succeeded: float = 0.0
    result: Result | None = None
    message: str = ""
    archive: str = ""
    stored: int = 0
    settings: list[Any] = field(default_factory=list)
    owners: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    databases: dict[str, dict[str, int]] = field(default_factory=dict)
    snapshots: dict[str, list[int]] = field(default_factory=dict)
    plain: list[str] = field(default_factory=list)
    archives: dict[str, dict[str, Any]] = field(default_factory=dict)
    drill: dict[str, Any] = field(default_factory=dict)

    def note(self, name: str, sums: Sums, destination: str, verified: Verified) -> None:
        """Remember that the archive `name` was verified at `destination`."""
        entry = self.archives.setdefault(name, {"sha256": sums.archive, "verified": {}})
        entry.setdefault("manifest", sums.manifest)  # earlier versions did not write it
        entry["verified"][destination] = verified

    def verified(self, name: str, destination: str) -> Verified | None:
        """How far the archive `name` was verified at `destination`, or None."""
        found = self.archives.get(name, {}).get("verified", {}).get(destination)
        return found if found in {"ciphertext", "content"} else None

    def knows(self, name: str) -> bool:
        """Whether this machine has made or verified the archive `name`, and knows the checksum of its manifest too."""
        return "manifest" in self.archives.get(name, {})

    def contradicts(self, name: str, sums: Sums) -> bool:
        """Whether the archive `name`, or its manifest, is another one than this machine has made or verified."""
        known = self.archives.get(name, {})
        return (known.get("sha256", sums.archive), known.get("manifest", sums.manifest)) != sums

    def forget(self, name: str, destination: str) -> None:
        """Remove what is remembered about the archive `name` at `destination`."""
        verified = self.archives.get(name, {}).get("verified", {})
        verified.pop(destination, None)
        if not verified:
            self.archives.pop(name, None)


def folder(host: str) -> Path:
    """Return the directory of what belongs to a host's backups, after creating it: record, lock and staging."""
    return private_dir(private_dir(state_dir() / "backup") / host)


def load(host: str) -> Record:
    """Return the host's record, or an empty one. Raise VerificationFailed if the file is damaged."""
    path = state_dir() / "backup" / host / "record.json"
    try:
        values = json.loads(path.read_bytes())
        known = {each.name: type(getattr(Record(), each.name)) for each in fields(Record)}
        found = {name: value for name, value in values.items() if name in known}
        for name, value in found.items():
            if name != "result" and not isinstance(value, _accepted(known[name])):
                raise TypeError(name)  # noqa: TRY301 - one error for every kind of damage
        return _checked(Record(**found))
    except FileNotFoundError:
        return Record()
    except (ValueError, TypeError, AttributeError) as error:
        raise VerificationFailed(
            f"{path} is damaged ({error})",
            f"move it away: the next `./inv backup --host {host}` starts a new one, and archives without a record are "
            "never removed",
        ) from None


def _checked(record: Record) -> Record:
    """Return the record. Raise TypeError, with the field's name, if a time or a value inside a field can't be used."""
    drill = record.drill
    times = {name: getattr(record, name) for name in ("started", "ended", "succeeded")}
    usable = {
        **{name: 0 <= time < _LATEST for name, time in times.items()},
        "result": isinstance(record.result, str | None),
        "archives": all(
            isinstance(each, dict)
            and isinstance(verified := each.get("verified", {}), dict)
            and all(isinstance(level, str) for level in verified.values())
            for each in record.archives.values()
        ),
        "owners": _are_owners(record.owners.get("others", {}), record.owners.get("modes", {})),
        "drill": isinstance(ended := drill.get("ended", 0), int | float)
        and 0 <= ended < _LATEST
        and isinstance(drill.get("result"), str | None),
    }
    if damaged := [name for name, fine in usable.items() if not fine]:
        raise TypeError(damaged[0])
    return record


def _are_owners(others: object, modes: object) -> bool:
    if not isinstance(others, dict) or not isinstance(modes, dict):
        return False
    pairs = all(
        isinstance(pair, list) and [type(each) for each in pair] == [str, str] for pair in others.values()
    )
    return pairs and all(type(mode) is int for mode in modes.values())


def _accepted(kind: type) -> tuple[type, ...]:
    return (int, float) if kind is float else (kind,)


def save(host: str, record: Record) -> None:
    """Write the host's record."""
    text = json.dumps({"format": _FORMAT, **asdict(record)}, indent=1) + "\n"
    write_atomically(folder(host) / "record.json", text, mode=0o600)


def finish(host: str, record: Record) -> None:
    """Write the host's record at the end of a run, and add the run to the host's history."""
    save(host, record)
    took = round(max(record.ended - record.started, 0.0), 3)
    history.append(host, "backup", at=record.ended, result=record.result, seconds=took, stored=record.stored)
