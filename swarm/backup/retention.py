"""Which archives may go. Pure: given what is stored, return what to keep and what to remove."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from swarm.backup.naming import Name

__all__ = ["SKEW", "Policy", "ahead", "latest", "removable"]

SKEW = timedelta(minutes=10)  # an archive dated later than this after now comes from a wrong clock


@dataclass(frozen=True)
class Policy:
    """How many verified archives stay: the `keep` newest, and the newest of each of so many days, weeks and months."""

    keep: int = 7
    daily: int = 0
    weekly: int = 0
    monthly: int = 0


_PERIODS: dict[str, Callable[[datetime], tuple[int, ...]]] = {
    "daily": lambda time: (time.year, time.month, time.day),
    "weekly": lambda time: tuple(time.isocalendar()[:2]),
    "monthly": lambda time: (time.year, time.month),
}


def ahead(name: Name, now: datetime) -> bool:
    """Whether an archive is dated in the future, by more than two clocks may differ."""
    return name.created > now + SKEW


def latest(verified: Iterable[Name], now: datetime) -> Name | None:
    """Return the newest of the verified archives that is not dated in the future, or None."""
    return max((name for name in verified if not ahead(name, now)), default=None, key=_created)


def removable(verified: Iterable[Name], policy: Policy, now: datetime) -> list[Name]:
    """Return the verified archives that the policy does not keep, oldest first.

    Archives that are not verified, or are dated in the future, neither count nor go: the caller passes only verified
    ones, and those of the future are ignored here. At least the newest archive always stays.
    """
    dated = sorted({name for name in verified if not ahead(name, now)}, key=_created, reverse=True)
    kept = set(dated[: max(policy.keep, 1)])
    for period, key in _PERIODS.items():
        newest: dict[tuple[int, ...], Name] = {}
        for name in dated:
            newest.setdefault(key(name.created.astimezone(UTC)), name)
        kept |= set(list(newest.values())[: getattr(policy, period)])
    return [name for name in reversed(dated) if name not in kept]


def _created(name: Name) -> tuple[datetime, str, bool]:
    return (
        name.created,
        name.host,
        name.encrypted,
    )  # a total order, so that the result depends on no listing's order
