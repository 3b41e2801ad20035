"""Read an archive back: check every member against a strict policy, verify it, and write it beneath a directory."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from swarm.backup.checksums import CLOSING, CLOSING_FOLDER, line
from swarm.backup.crypt import decoded
from swarm.backup.pipe import Pipe, Worker
from swarm.backup.staging import Staging
from swarm.backup.tar import Reader
from swarm.errors import Unfit, VerificationFailed
from swarm.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from swarm.backup.manifest import Entry

__all__ = ["Incomplete", "Unpacked", "unpack"]

_NAME_MAX = 255  # bytes of one component


@dataclass(frozen=True)
class Unpacked:
    """Every member with the checksum that was computed from its data, and what could not be written, by name."""

    entries: tuple[Entry, ...]
    problems: tuple[str, ...] = ()


class Incomplete(VerificationFailed):
    """An archive is damaged or ends early. `entries` are the complete members: compare() names what is missing."""

    def __init__(self, message: str, entries: tuple[Entry, ...]) -> None:
        super().__init__(message, "restore another archive")
        self.entries = entries


def unpack(
    chunks: Iterable[bytes],
    into: Path | None,
    *,
    identity: Path | None,
    only: Callable[[str], bool] | None = None,
    recipient: str | None = None,
) -> Unpacked:
    """Verify an archive, and write it beneath the empty directory `into` if one is given.

    `only` selects by path what is written; everything is verified. `recipient` is named if the identity is wrong.
    Symbolic links are written as they are, wherever they lead: whoever reads the tree must not follow them. Raise
    VerificationFailed for an archive that is hostile, Incomplete for one that is damaged or ends early, and UsageError
    for a missing or wrong identity.
    """
    pipe = Pipe()

    def decode() -> None:
        decoded(chunks, pipe.put, identity=identity, recipient=recipient)
        pipe.close()

    worker = Worker(decode, pipe)
    unpacking = _Unpacking(Reader(iter(pipe)), only)
    try:
        if into is None:
            unpacking.run(None)
        else:
            with Staging(into) as staging:
                unpacking.run(staging)
    except EOFError:
        raise unpacking.incomplete() from None
    except VerificationFailed as error:
        if error is pipe.error:  # the stored data is damaged, not what it contains
            raise Incomplete(error.message, tuple(unpacking.entries)) from None
        raise
    finally:
        pipe.fail(EOFError())
        worker.join()
    return Unpacked(tuple(unpacking.entries), tuple(unpacking.problems))


class _Unpacking:
    """Reads members one by one."""

    def __init__(self, reader: Reader, only: Callable[[str], bool] | None) -> None:
        self._reader, self._only = reader, only
        self._kinds: dict[str, str] = {"": "directory"}
        self._sums = hashlib.sha256()
        self._closed = False
        self._current = ""
        self.entries: list[Entry] = []
        self.problems: list[str] = []

    def run(self, staging: Staging | None) -> None:
        """Read the whole archive. The last member must be the checksums of all others."""
        for found in self._reader:
            self._current = found.path
            entry = self._admitted(found)
            if staging and entry.kind == "directory":
                staging.expect(entry)
            if entry.path == CLOSING:
                self._check_sums(entry)
            else:
                self._member(entry, staging if self._selected(entry) else None)
            self._current = ""
        if not self._closed:
            raise EOFError
        if staging:
            staging.finish()

    def incomplete(self) -> Incomplete:
        """Return the error for an archive that ends here."""
        if self._current:
            where = f"inside {_shown(self._current)}"
        else:
            where = f"after {_shown(self.entries[-1].path)}" if self.entries else "before its first member"
        return Incomplete(f"the archive ends early, {where}", tuple(self.entries))

    def _selected(self, entry: Entry) -> bool:
        return self._only is None or self._only(entry.path)

    def _member(self, entry: Entry, staging: Staging | None) -> None:
        if entry.kind == "file":
            digest = hashlib.sha256()
            data = _hashed(self._reader.data(entry), digest.update)
            if staging:
                staging.file(entry, data)
            else:
                for _ in data:
                    pass
            entry = replace(entry, sha256=digest.hexdigest())
            self._sums.update(line(entry))
        elif staging:
            self._write(entry, staging)
        self.entries.append(entry)

    def _write(self, entry: Entry, staging: Staging) -> None:
        if entry.kind == "directory":
            staging.directory(entry)
        elif problem := self._link(entry, staging):
            self.problems.append(f"{_shown(entry.path)}: {problem}")

    def _link(self, entry: Entry, staging: Staging) -> str | None:
        """Create a link. Return why it was not created: one link less is no reason to restore nothing."""
        try:
            if entry.kind == "hard":
                known = staging.hard(entry)
                return None if known else f"is a hard link to {_shown(entry.target)}, which is not selected"
            staging.link(entry)  # wherever it leads: nothing is opened through it, here or in the guest
        except Unfit as error:
            return error.message
        return None

    def _check_sums(self, entry: Entry) -> None:
        digest = hashlib.sha256()
        for chunk in self._reader.data(entry):
            digest.update(chunk)
        if digest.digest() != self._sums.digest():
            raise VerificationFailed(f"the archive is damaged: {CLOSING} does not match its files")
        self._closed = True

    def _admitted(self, found: Entry) -> Entry:
        """Return the member with its canonical path. Raise VerificationFailed if the policy does not admit it."""
        path = found.path.removeprefix("./")
        if found.kind == "directory":
            path = path.rstrip("/")
        reason = self._objection(path, found)
        if reason:
            raise VerificationFailed(
                f"the archive is not safe to unpack: {_shown(found.path)} {reason}", "nothing was restored"
            )
        self._kinds[path] = found.kind
        if found.kind == "hard":
            return replace(found, path=path, target=found.target.removeprefix("./"))
        return found if path == found.path else replace(found, path=path)

    def _objection(self, path: str, found: Entry) -> str | None:
        parts, folder = path.split("/"), path.rpartition("/")[0]
        target = found.target.removeprefix("./")
        reserved = CLOSING_FOLDER in {folder, path}
        checks = (
            (path.startswith("/"), "is an absolute path"),
            (bool({"", ".", ".."} & set(parts)), "is not a plain relative path"),
            (max(len(os.fsencode(part)) for part in parts) > _NAME_MAX, "has too long a name"),
            (self._closed, "follows the closing member"),
            (path in self._kinds, "occurs twice"),
            (reserved and (path != CLOSING or found.kind != "file"), "uses a reserved name"),
            (
                not reserved and self._kinds.get(folder) != "directory",
                "is not beneath a directory of the archive",
            ),
            (
                found.kind == "hard" and self._kinds.get(target) != "file",
                f"is a hard link to {_shown(target)}, which is no earlier file",
            ),
        )
        return next((reason for failed, reason in checks if failed), None)


def _hashed(chunks: Iterable[bytes], update: Callable[[bytes], None]) -> Iterable[bytes]:
    for chunk in chunks:
        update(chunk)
        yield chunk


def _shown(path: str) -> str:
    return visible(path, lines=False)
