"""Show the outcomes of a run to a person or a script, and return an exit code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from swarm.console import Talk, escape, screen
from swarm.logs import path_of
from swarm.text import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from swarm.commands.run import Outcome

__all__ = ["Done", "Result", "render"]


class Result(Protocol):
    """What a verb returns for one host.

    It may also have `exit_code: int`, by default 0, and `lines() -> list[str]`: markup that shows it to people in full.
    """

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
    """The result of a verb that does one thing, named by the participle `verb`, or nothing."""

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

    By default each host's JSON is its result's with `changed`. People see the `lines` and the summary of each result
    that has lines; if none has, they see a table with one line for each host, if there are several.
    """
    with screen().verdict():
        if as_json:
            screen().json((data or _data)(outcomes))
        else:
            (table or _people)(outcomes)
    return max((_exit_code(each) for each in outcomes), default=0)


def _exit_code(outcome: Outcome[Any]) -> int:
    if outcome.error:
        return outcome.error.exit_code
    return int(getattr(outcome.result, "exit_code", 0))


def _data(outcomes: Sequence[Outcome[Any]]) -> list[dict[str, Any]]:
    return [{**each.to_json(), "changed": _changed(each.result)} for each in outcomes]


def _changed(result: Any) -> bool:  # noqa: ANN401 - any verb's result
    return bool(getattr(result, "changed", result))


def _people(outcomes: Sequence[Outcome[Any]]) -> None:
    results: list[tuple[str, Any]] = [(each.name, each.result) for each in outcomes]
    detailed = [(name, result) for name, result in results if hasattr(result, "lines")]
    for name, result in detailed:
        for line in result.lines():
            screen().data(line)
        Talk(screen(), name).say(result.summary)
    if not detailed:
        _summary(outcomes)


def _summary(outcomes: Sequence[Outcome[Any]]) -> None:
    if len(outcomes) > 1:
        rows = [(each.name, _words(each), seconds(each.took)) for each in outcomes]
        screen().table(("host", "result", "time"), rows)
        if any(each.error for each in outcomes):
            screen().line(f"output of each host: {escape(str(path_of('NAME')))}")


def _words(outcome: Outcome[Any]) -> str:
    if outcome.error:
        return f"failed: {outcome.error.message.splitlines()[0]}"
    result: Any = outcome.result
    return str(result.summary)
