"""Turn the outcomes of a run into what a person or a script sees, and into an exit code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from swarm.console import screen
from swarm.text import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from swarm.commands.run import Outcome

__all__ = ["Done", "Result", "render"]


class Result(Protocol):
    """What a verb returns for one host. `exit_code` is optional and 0 by default."""

    @property
    def changed(self) -> bool:
        """Whether the verb changed something, or would."""

    @property
    def summary(self) -> str:
        """The result in a few words."""

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain data."""


@dataclass(frozen=True)
class Done:
    """The result of a verb that either does one thing, named by `verb`, or has nothing to do."""

    changed: bool
    verb: str

    @property
    def summary(self) -> str:
        """The result in a few words."""
        return self.verb if self.changed else "nothing to do"

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return {"changed": self.changed}


Any_ = TypeVar("Any_")


def render(
    outcomes: Sequence[Outcome[Any_]],
    *,
    as_json: bool,
    data: Callable[[Sequence[Outcome[Any_]]], object] | None = None,
    table: Callable[[Sequence[Outcome[Any_]]], None] | None = None,
) -> int:
    """Write outcomes as JSON (`data` of them) or as a table (by `table`), and return the worst exit code.

    By default each host's JSON is its result's with `changed`, and the table has one line a host, if there are several.
    """
    if as_json:
        screen().json((data or _data)(outcomes))
    else:
        (table or _summary)(outcomes)
    return max((_exit_code(each) for each in outcomes), default=0)


def _exit_code(outcome: Outcome[Any]) -> int:
    if outcome.error:
        return outcome.error.exit_code
    return int(getattr(outcome.result, "exit_code", 0))


def _data(outcomes: Sequence[Outcome[Any]]) -> list[dict[str, Any]]:
    return [{**each.to_json(), "changed": _changed(each.result)} for each in outcomes]


def _changed(result: Any) -> bool:  # noqa: ANN401 - any verb's result
    return bool(getattr(result, "changed", result))


def _summary(outcomes: Sequence[Outcome[Any]]) -> None:
    if len(outcomes) > 1:
        rows = [(each.name, _words(each), seconds(each.took)) for each in outcomes]
        screen().table(("host", "result", "time"), rows)


def _words(outcome: Outcome[Any]) -> str:
    if outcome.error:
        return f"failed: {outcome.error.message.splitlines()[0]}"
    if summary := getattr(outcome.result, "summary", None):
        return str(summary)
    return f"{len(outcome.result.changes)} changes" if outcome.result else "nothing to do"
