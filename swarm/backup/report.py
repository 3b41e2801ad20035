"""What a run of `inv backup` returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from swarm.text import amount

if TYPE_CHECKING:
    from swarm.backup.record import Result

__all__ = ["Report"]


@dataclass(frozen=True)
class Report:
    """The outcome of one run: the archive, if one was due, and what went wrong at single destinations."""

    host: str
    archive: str | None = None
    current: str | None = None  # the archive that still holds the mirror's content, if none was due
    files: int = 0
    size: int = 0
    stored: int = 0
    verified: dict[str, str] | None = None
    removed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[
        str, ...
    ] = ()  # the notes about the guest's files: a loss that was accepted, an unreadable file
    errors: tuple[str, ...] = ()
    changes: int = 0

    @property
    def result(self) -> Result:
        """How the run went, for records, metrics and pings."""
        if self.errors:
            return "failure"
        return "warning" if self.warnings else "success"

    @property
    def changed(self) -> bool:
        """Whether the mirror or the archives changed, or would."""
        return bool(self.archive or self.changes)

    @property
    def exit_code(self) -> int:
        """1 if a destination failed, else 0."""
        return int(bool(self.errors))

    @property
    def summary(self) -> str:
        """The outcome in one line."""
        if self.errors:
            return f"failed: {self.errors[0].splitlines()[0]}"
        if self.archive:
            words = "content" if set((self.verified or {}).values()) == {"content"} else "ciphertext"
            removed = f", {len(self.removed)} old removed" if self.removed else ""
            return (
                f"{self.archive}: {self.files} files, {amount(self.size)}, stored {amount(self.stored)}, "
                f"verified ({words}){removed}"
            )
        if self.changes:
            return f"{self.changes} changes"
        return f"nothing to do: {self.current} is current" if self.current else "nothing to do"

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain data."""
        return {**asdict(self), "changed": self.changed}
