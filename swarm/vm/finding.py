"""What one check of `inv doctor` found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

__all__ = ["Finding"]


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    level: Literal["ok", "warning", "failure"]
    what: str
    remedy: str | None = None

    def to_json(self) -> dict[str, str | None]:
        """Return the finding as plain data."""
        return asdict(self)
