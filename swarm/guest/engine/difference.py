"""What has to change, as pure functions of the facts. One wrapper makes an error of a fact that a step cannot read."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from swarm.errors import CommandFailed, Refused, SwarmError
from swarm.guest.engine.graph import levels, waits_for
from swarm.guest.engine.shown import brief, mask
from swarm.plan import Action, Change, Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from swarm.guest.engine.step import Step

__all__ = ["change", "difference", "plan", "read", "refuse", "secrets_of", "state"]

_Answer = TypeVar("_Answer")


def secrets_of(steps: Iterable[Step]) -> tuple[str, ...]:
    """Return the secrets of all steps."""
    return tuple({secret for step in steps for secret in step.secrets})


def read(host: str, step: Step, question: Callable[[str], _Answer], fact: str) -> _Answer:
    """Return what a step's callable makes of a fact. Raise CommandFailed if it cannot read it. SwarmErrors pass."""
    try:
        return question(fact)
    except SwarmError:
        raise
    except Exception as error:  # whatever a hostile fact provokes is an error of that host alone
        what = f"{host}: {step.subject}: cannot read the guest's answer"
        raise CommandFailed(
            f"{what}: {type(error).__name__}", f"it was: {brief(repr(fact), step.secrets)}"
        ) from error


def refuse(host: str, steps: Sequence[Step], facts: Mapping[str, str], *, begun: bool = False) -> None:
    """Raise Refused with the reasons of all steps that have one. `begun` says that changes were made already."""
    found = [read(host, step, step.refuse, facts[step.subject]) for step in steps]
    hidden = secrets_of(steps)
    if reasons := [brief(reason, hidden) for reason in found if reason]:
        hint = "nothing was changed"
        if begun:
            hint = "earlier changes are kept; fix the cause and run the same command again"
        raise Refused("; ".join(reasons), hint)


def difference(
    host: str, steps: Sequence[Step], facts: Mapping[str, str], *, begun: bool = False
) -> list[Step]:
    """Return the steps whose state is not as wanted. Raise as refuse() and read()."""
    refuse(host, steps, facts, begun=begun)
    return [step for step in steps if read(host, step, step.apply, facts[step.subject]) is not None]


def plan(host: str, steps: Sequence[Step], facts: Mapping[str, str]) -> Plan:
    """Return the pending changes in execution order. Raise as difference().

    A change that depends on another pending change is marked uncertain. A step that reacts to one is included even if
    its state is as wanted now.
    """
    hidden = secrets_of(steps)
    due = {step.subject for step in difference(host, steps, facts)}
    pending = set(due)
    changes = []
    for step in [step for level in levels(steps) for step in level]:
        if step.subject in due or pending & {*step.reacts_to}:
            certain = not waits_for(step) & pending
            pending.add(step.subject)
            changes.append(change(host, step, facts[step.subject], certain=certain, hidden=hidden))
    return Plan(host, tuple(changes))


def change(host: str, step: Step, fact: str, *, certain: bool = True, hidden: Sequence[str] = ()) -> Change:
    """Return what a step would do as a change, without the secrets in `hidden`."""
    before, diff = read(host, step, step.shown, fact), read(host, step, step.diff, fact)
    action: Action = "create" if before is None else "update"
    if step.subject.startswith("command "):
        action = "run"
    return Change(
        action,
        step.subject,
        before=brief(before, hidden) if before else None,
        after=mask(step.wanted, hidden),
        certain=certain,
        detail=mask(diff, hidden) if diff else None,
    )


def state(host: str, step: Step, fact: str, hidden: Sequence[str] = ()) -> str:
    """Return the present state of a step's thing in a few words."""
    return brief(read(host, step, step.shown, fact) or fact.partition("\n")[0] or "nothing", hidden)
