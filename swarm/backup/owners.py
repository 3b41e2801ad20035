"""To whom the files of a state directory belong, by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Owners"]


@dataclass(frozen=True)
class Owners:
    """The owner and the group of a state directory. `others` maps paths with other owners to theirs."""

    user: str
    group: str
    others: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def of(self, path: str) -> tuple[str, str]:
        """Return the owner and the group of a path relative to the state directory."""
        return self.others.get(path, (self.user, self.group))
