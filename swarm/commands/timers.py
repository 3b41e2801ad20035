"""The commands about timers: install, status, remove."""

from __future__ import annotations

from swarm.commands.run import chosen
from swarm.console import Talk, screen

__all__ = ["install", "remove", "status"]


def install(words: str, *, drill: bool, plan_only: bool, as_json: bool) -> int:
    """Install the timers of hosts."""
    from swarm import timers

    names = [host.name for host in chosen(words).hosts]
    done = timers.install(names, Talk(screen(), quiet=as_json), drill=drill, plan_only=plan_only)
    return _show(done, as_json=as_json)


def remove(words: str, *, plan_only: bool, as_json: bool) -> int:
    """Remove the timers of hosts."""
    from swarm import timers

    names = [host.name for host in chosen(words).hosts]
    return _show(timers.remove(names, Talk(screen(), quiet=as_json), plan_only=plan_only), as_json=as_json)
