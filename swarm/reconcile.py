"""The loop behind every changing verb: observe, show the difference, apply it, observe again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from swarm.console import escape
from swarm.errors import VerificationFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from swarm.console import Talk
    from swarm.plan import Plan

__all__ = ["Applied", "reconcile", "show"]

Observed = TypeVar("Observed")

_COLORS = {"+": "green", "-": "red", "@": "cyan"}  # of a diff's lines, by their first character


@dataclass(frozen=True)
class Applied(Generic[Observed]):
    """What applying a plan did: the changes that were made, and the state afterwards if it is already known."""

    plan: Plan
    observed: Observed | None = None


def reconcile(
    observe: Callable[[], Observed],
    difference: Callable[[Observed], Plan],
    apply: Callable[[Plan, Observed], Applied[Observed]],
    talk: Talk,
    *,
    plan_only: bool = False,
    confirm: Callable[[Plan], None] | None = None,
) -> Plan:
    """Bring one host to its wanted state, and return the changes that were made.

    The plan is shown before anything is changed; with `plan_only` it is shown and returned. `confirm` is
    called between the two and raises Refused to stop. Raise VerificationFailed if changes remain afterwards,
    and whatever the functions raise.
    """
    observed = observe()
    plan = difference(observed)
    show(plan, talk)
    if plan_only or not plan:
        return plan
    if confirm:
        confirm(plan)
    applied = apply(plan, observed)
    left = difference(observe() if applied.observed is None else applied.observed)
    if left:
        raise VerificationFailed(
            f"{plan.host}: still to do after all changes: {'; '.join(change.line() for change in left)}",
            "run the same command again; if it happens again, report it as a defect of swarm",
        )
    return applied.plan


def show(plan: Plan, talk: Talk) -> None:
    """Write a plan line by line, with the diffs of files."""
    if not plan:
        talk.say("nothing to do")
    for change in plan:
        talk.say(change.line())
        for line in (change.detail or "").splitlines():
            color = _COLORS.get(line[:1])
            talk.screen.line(
                f"{talk.prefix}    [{color}]{escape(line)}[/]"
                if color
                else f"{talk.prefix}    {escape(line)}"
            )
