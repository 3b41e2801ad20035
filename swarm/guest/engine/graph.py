"""The order of steps: levels, dependents, and the check of their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from swarm.guest.engine.step import Step

__all__ = ["check_names", "levels", "waits_for", "with_dependents"]


def waits_for(step: Step) -> set[str]:
    """Return the subjects of the steps that must be done before this one."""
    return {*step.after, *step.reacts_to}


def check_names(steps: Sequence[Step]) -> None:
    """Raise Refused if two steps have the same subject, and AssertionError if a step waits for an unknown one."""
    seen: set[str] = set()
    for step in steps:
        if step.subject in seen:
            raise Refused(f"{step.subject} is stated twice", "state each thing once")
        seen.add(step.subject)
    for step in steps:
        missing = waits_for(step) - seen
        assert not missing, f"{step.subject} waits for unknown steps: {sorted(missing)}"  # noqa: S101 - a bug of ours


def levels(steps: Sequence[Step]) -> list[list[Step]]:
    """Return the steps in levels: each waits only for steps of earlier levels, or for steps that are not given."""
    rest, found = list(steps), []
    while rest:
        names = {step.subject for step in rest}
        level = [step for step in rest if not names & waits_for(step)]
        assert level, f"these steps wait for each other: {sorted(names)}"  # noqa: S101 - a bug of ours
        found.append(level)
        rest = [step for step in rest if names & waits_for(step)]
    return found


def with_dependents(steps: Sequence[Step], subjects: Collection[str]) -> list[Step]:
    """Return the steps with these subjects and all that wait for one of them, directly or not, in the given order."""
    names = set(subjects)
    for level in levels(steps):
        names |= {step.subject for step in level if names & waits_for(step)}
    return [step for step in steps if step.subject in names]
