"""The loop behind every verb that makes changes: observe, show the plan, apply it, observe again: nothing is left."""

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
    """The outcome of applying a plan: the changes that were really made, and the state after them if it is known."""

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
    """Bring one host to its wanted state. Return the changes that were made, or with `plan_only` those that would be.

    The plan is shown before anything is changed. Then `confirm` is called with it; it raises Refused to stop. Raise
    VerificationFailed if changes are left at the end, and whatever the given functions raise.
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
            f"{plan.host}: changes are left after all steps ran: {'; '.join(change.line() for change in left)}",
            "run the same command again; if that does not help, report a bug in swarm",
        )
    return applied.plan


def show(plan: Plan, talk: Talk) -> None:
    """Write a plan line by line, with the diffs of files."""
    if not plan:
        talk.say(plan.summary)
    for change in plan:
        talk.say(change.line())
        for line in (change.detail or "").splitlines():
            text, color = escape(line), _COLORS.get(line[:1])
            talk.screen.line(f"{talk.prefix}    [{color}]{text}[/]" if color else f"{talk.prefix}    {text}")
