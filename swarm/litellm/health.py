"""Is LiteLLM dead, and would a restart help? No check here calls a model.

A restart cures two things: a process that no longer answers, and one that has lost a database that is up. It cures
neither a rate limit nor a failing model nor a database that is down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from swarm.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from swarm.litellm.client import Client, Health

__all__ = ["Finding", "History", "Sample", "State", "judge", "look", "may_restart", "parse_times", "window"]

State = Literal["healthy", "shutting down", "database down", "not ready", "dead", "unknown"]

_SHORTEST = timedelta(hours=1)  # between two restarts
_LONGEST = timedelta(hours=24)
_OK, _UNAVAILABLE = 200, 503
_PAUSE = 5.0  # seconds between two looks


@dataclass(frozen=True)
class Sample:
    """What the two health requests answered. `database` is the readiness answer's word for it."""

    alive: bool
    ready: bool
    database: str = ""
    shutting_down: bool = False
    error: str = ""


@dataclass(frozen=True)
class Finding:
    """The state, in a sentence, with a hint, and whether a restart would help."""

    state: State
    sentence: str
    hint: str | None = None
    restart: bool = False


@dataclass(frozen=True)
class History:
    """The restarts since LiteLLM was last healthy, the newest last."""

    restarts: tuple[datetime, ...] = field(default=())


def look(
    client: Client, grace: float, *, pause: float = _PAUSE, note: Callable[[str], None] = lambda _: None
) -> Sample:
    """Return the state of the proxy. What is wrong must stay so for `grace` seconds; a good answer returns at once."""
    deadline = Deadline(grace)
    while True:
        sample = _sample(client)
        if (sample.alive and sample.ready) or not deadline.pause(pause):
            return sample
        note(
            f"{sample.error or sample.database or 'not ready'}; looking again for {deadline.remaining:.0f} s"
        )


def judge(sample: Sample, database_answers: bool | None) -> Finding:  # noqa: FBT001 - a third state is possible
    """Return what a sample means. `database_answers` is whether PostgreSQL does, or None if that can't be found out."""
    if sample.alive and sample.ready:
        return Finding("healthy", "LiteLLM is healthy")
    if sample.shutting_down:
        return Finding("shutting down", "LiteLLM is shutting down", "run the command again in a minute")
    if database_answers is False:
        return Finding(
            "database down", "PostgreSQL does not answer, so a restart of LiteLLM would not help",
            "./inv litellm.logs shows why the database stopped; ./inv litellm.up starts it",
        )  # fmt: skip
    if not sample.alive:
        return Finding("dead", f"LiteLLM does not answer ({sample.error})", restart=True)
    if database_answers is None:
        return Finding(
            "unknown", f"LiteLLM is not ready (database: {sample.database or 'unknown'}), and swarm does not run it",
            "restart it where it runs, if its database is up",
        )  # fmt: skip
    words = sample.database or "unknown"
    return Finding(
        "not ready", f"LiteLLM reports its database as {words}, but PostgreSQL answers", restart=True
    )


def may_restart(history: History, now: datetime) -> timedelta | None:
    """Return None if a restart is allowed now, or how long to wait until the next one."""
    if not history.restarts:
        return None
    left = history.restarts[-1] + window(len(history.restarts)) - now
    return left if left > timedelta() else None


def window(restarts: int) -> timedelta:
    """Return the time between two restarts after so many that did not help: 1, 2, 4 … at most 24 hours."""
    return min(_SHORTEST * (1 << min(restarts - 1, 10)), _LONGEST)


def _sample(client: Client) -> Sample:
    alive = client.health("liveliness")
    if alive.status != _OK:
        return Sample(alive=False, ready=False, error=alive.error or f"liveliness answered {alive.status}")
    ready = client.health("readiness")
    database = str(ready.body.get("db") or "")
    return Sample(
        alive=True,
        ready=ready.status == _OK and database == "connected",
        database=database,
        shutting_down=ready.status == _UNAVAILABLE and _shutting_down(ready),
        error=ready.error,
    )


def _shutting_down(ready: Health) -> bool:
    return "shutting_down" in str(ready.body)


def parse_times(values: Sequence[object]) -> tuple[datetime, ...]:
    """Return times in UTC from ISO 8601. Raise ValueError."""
    found = [datetime.fromisoformat(str(value)) for value in values]
    return tuple(sorted(time if time.tzinfo else time.replace(tzinfo=UTC) for time in found))
