"""A plan: the pending changes of one host, which can be shown, counted, converted to JSON and applied in order."""

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
    """One change of one thing.

    `subject` names the thing. `before` and `after` are its states in a few words. `note` is a remark for people, such
    as "takes effect at the next start". `certain` is false if the change depends on an earlier one. `key` identifies
    the change to the code that applies it. `detail` is longer text, such as a file's diff.
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
    """The changes that bring one host to the wanted state, in execution order. False when there are none."""

    host: str
    changes: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    @property
    def changed(self) -> bool:
        """Whether there is any change."""
        return bool(self.changes)

    @property
    def summary(self) -> str:
        """The number of changes, for people: '3 changes', or 'nothing to do'."""
        count = len(self.changes)
        if not count:
            return "nothing to do"
        return "1 change" if count == 1 else f"{count} changes"

    @property
    def destructive(self) -> bool:
        """Whether something would be replaced or deleted, which needs a confirmation."""
        return any(change.action in {"replace", "delete"} for change in self.changes)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return {"host": self.host, "changes": [change.to_json() for change in self.changes]}
