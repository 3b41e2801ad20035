"""To whom the files of a state directory belong, by name, and what may be done with them."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Owners"]


@dataclass(frozen=True)
class Owners:
    """The owner and the group of a state directory. `others` maps paths with other owners to theirs.

    `modes` maps what its owner may not read to its mode. In the mirror it can be read, or swarm could not archive it.
    """

    user: str
    group: str
    others: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)

    def of(self, path: str) -> tuple[str, str]:
        """Return the owner and the group of a path relative to the state directory."""
        return self.others.get(path, (self.user, self.group))

    def mode(self, path: str, found: int) -> int:
        """Return the mode of a path, of which the mirror has the mode `found`."""
        return self.modes.get(path, stat.S_IMODE(found))
