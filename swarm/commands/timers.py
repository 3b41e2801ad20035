"""The commands about timers: install, status, remove."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swarm.commands.run import chosen
from swarm.console import Talk, screen

if TYPE_CHECKING:
    from swarm.plan import Plan

__all__ = ["install", "remove", "status"]


def install(words: str, *, drill: bool, plan_only: bool, as_json: bool) -> int:
    """Install the timers of hosts."""
    from swarm import timers

    names = [host.name for host in chosen(words).hosts]
    talk = Talk(screen(), quiet=as_json)
    return _show(timers.install(names, talk, drill=drill, plan_only=plan_only), as_json=as_json)


def remove(words: str, *, plan_only: bool, as_json: bool) -> int:
    """Remove the timers of hosts."""
    from swarm import timers

    names = [host.name for host in chosen(words).hosts]
    return _show(timers.remove(names, Talk(screen(), quiet=as_json), plan_only=plan_only), as_json=as_json)


def status(words: str, *, as_json: bool) -> int:
    """Show the timers of hosts."""
    from swarm import timers

    found: Any = timers.status([host.name for host in chosen(words).hosts])
    if as_json:
        screen().json([each.to_json() for each in found])
    else:
        screen().table(("timer", "next", "last", "result"), [each.row() for each in found])
    return int(any(each.failed for each in found))


def _show(plan: Plan, *, as_json: bool) -> int:
    if as_json:
        screen().json({**plan.to_json(), "changed": plan.changed})
    return 0
