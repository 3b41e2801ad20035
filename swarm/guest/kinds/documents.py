"""Steps for JSON files that also hold settings of others."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from swarm.guest.kinds.edits import edit
from swarm.guest.kinds.parts import body

if TYPE_CHECKING:
    from collections.abc import Callable

    from swarm.guest.engine.step import Step

__all__ = ["json_file"]


def json_file(
    path: str,
    change: Callable[[dict[str, Any]], dict[str, Any]],
    wanted: str,
    *,
    after: tuple[str, ...] = (),
) -> Step:
    """Return a step for a JSON object in a file. `change` is given the present object and returns the wanted one.

    A missing or blank file counts as an empty object. A file that holds the wanted object keeps its form, whatever it
    is. One that holds anything but an object is refused, since rewriting it would lose what its owner meant.
    """

    def changed(content: str) -> str:
        now = _read(content)
        if (new := change(now)) == now and content.strip():
            return content
        return json.dumps(new, indent=2) + "\n"

    step = edit(path, f"file {path}", changed, wanted, after=after)

    def refuse(fact: str) -> str | None:
        if reason := step.refuse(fact):
            return reason
        try:
            _read(body(fact))
        except ValueError as error:
            return f"{path} is not a JSON object: {error}"
        except RecursionError:
            return f"{path} is not a JSON object: nested too deeply"
        return None

    return replace(step, refuse=refuse, shown=lambda fact: "there, but different" if body(fact) else None)


def _read(content: str) -> dict[str, Any]:
    """The object in a file. Raise ValueError or RecursionError if it holds something else."""
    if not content.strip():
        return {}
    data = json.loads(content)
    if not isinstance(data, dict):
        raise ValueError("expected an object in braces")  # noqa: TRY004 - the same kind of error as a syntax error
    return data
