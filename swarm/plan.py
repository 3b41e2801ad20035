"""What would change: a list of changes that can be shown, counted, turned into JSON and applied in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SIGNS", "Action", "Change", "Plan"]

Action = Literal["create", "update", "replace", "delete", "run"]

SIGNS: dict[Action, str] = {"create": "+", "update": "~", "replace": "±", "delete": "-", "run": "▸"}


@dataclass(frozen=True)
class Change:
    """One thing that would be done.

    `subject` names the thing; `before` and `after` say in a few words what it is and will be; `note` is what a person
    should know about it (like "takes effect at the next start"); `certain` is false where it depends on a change
    before it; `key` is what the code that applies it goes by; `detail` is longer text, like a file's diff.
    """

    action: Action
    subject: str
    before: str | None = None
    after: str | None = None
    note: str | None = None
    certain: bool = True
    key: str = ""
    detail: str | None = None

    def line(self) -> str:
        """Return the change as one line for people."""
        arrow = (
            f"{self.before} → {self.after}" if self.before and self.after else self.after or self.before or ""
        )
        text = f"{SIGNS[self.action]} {self.subject}" + (f": {arrow}" if arrow else "")
        text += f" ({self.note})" if self.note else ""
        return text if self.certain else f"{text} (maybe)"

    def to_json(self) -> dict[str, Any]:
        """Return the change as plain data."""
        names = ("action", "subject", "before", "after", "note", "certain", "detail")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Plan:
    """The changes that bring one host to the wanted state; false when there are none."""

    host: str
    changes: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    @property
    def destructive(self) -> bool:
        """Whether something would be replaced or deleted, so that the person must be asked."""
        return any(change.action in {"replace", "delete"} for change in self.changes)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return {"host": self.host, "changes": [change.to_json() for change in self.changes]}
