"""Steps as data, so that a test can say which ones it expects."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from swarm.inventory.inside import InstallSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from swarm.guest.engine.step import Step

# One of these facts makes each kind of step act, and another one satisfies or puzzles it.
FACTS = (
    "",
    "absent",
    "there",
    "yes",
    "no",
    "none",
    "unknown\nabsent",
    "other 644 root root directory 0",
    "none\nnone\nnone\nnone",
)


def data(step: Step) -> dict[str, Any]:
    """Return a step's fields, with each function replaced by its answers."""
    found = {field.name: getattr(step, field.name) for field in fields(step)}
    for name in ("apply", "refuse", "shown", "diff"):
        found[name] = [_answer(found[name], fact) for fact in FACTS]
    return found


def _answer(function: Any, fact: str) -> object:  # noqa: ANN401 - any of a step's functions
    try:
        return function(fact)
    except (LookupError, ValueError) as error:
        return type(error)


def same(found: Sequence[Step], expected: Sequence[Step]) -> None:
    """Fail unless both are the same steps in the same order."""
    assert [step.subject for step in found] == [step.subject for step in expected]
    for step, wanted in zip(found, expected, strict=True):
        assert data(step) == data(wanted), step.subject


def settings(**values: Any) -> InstallSettings:
    """The settings of a host file."""
    return InstallSettings.model_validate(values)


def named(found: list[Step], subject: str) -> Step:
    """The step with this subject."""
    return next(step for step in found if step.subject == subject)


def place(step: Step) -> tuple[object, ...]:
    """Where a step stands among the others."""
    return step.subject, step.after, step.reacts_to
