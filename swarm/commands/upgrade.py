"""The command that upgrades hosts, one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swarm.commands.render import render
from swarm.commands.run import Outcome, Selection, chosen, run
from swarm.commands.vm import positive
from swarm.console import Talk, screen
from swarm.errors import UsageError

if TYPE_CHECKING:
    from swarm.fleet.verdict import Report
    from swarm.inventory import Host

__all__ = ["upgrade"]


def upgrade(words: str, *, plan_only: bool, yes: bool, back: bool, limit: float, as_json: bool) -> int:
    """Upgrade hosts one after another, and stop at the first failure. A plan looks at all of them."""
    positive("--timeout", limit)
    if back and plan_only:
        raise UsageError("--back has no plan", f"./inv upgrade --host {words} --back asks before it begins")

    def one(host: Host, talk: Talk) -> Report:
        from swarm.fleet import upgrade as verb

        if back:
            return verb.back(host, talk, yes=yes, of_several=selection.several)
        return verb.upgrade(host, talk, plan_only=plan_only, yes=yes, limit=limit)

    selection = chosen(words)
    outcomes: list[Outcome[Any]] = run(Selection([], selection.broken, selection.several), one, quiet=as_json)
    waiting = list(selection.hosts)
    while waiting and (plan_only or not any(each.error for each in outcomes)):
        outcomes += run(Selection([waiting.pop(0)], of_several=selection.several), one, quiet=as_json)
    if waiting:
        left = ", ".join(host.name for host in waiting)
        Talk(screen()).warn(f"stopped at the first failure; not upgraded: {left}")
    return render(outcomes, as_json=as_json)
