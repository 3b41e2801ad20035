"""The commands about timers: install, status, remove."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.commands.run import chosen
from swarm.console import Talk, screen

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from swarm.timers import Timer

__all__ = ["install", "remove", "status"]


def install(words: str, *, drill: bool, litellm: bool, drift: bool, plan_only: bool, as_json: bool) -> int:
    """Install the timers of hosts, that of LiteLLM if this machine runs it, and with `drift` that of the plan."""
    from swarm import timers

    names = _names(words, needed=not (litellm or drift))
    single = _single(litellm=litellm or _runs_litellm(), drift=drift)
    done, notes = timers.install(names, drill=drill, single=single, plan_only=plan_only)
    return _show(done, notes, as_json=as_json)


def remove(words: str, *, litellm: bool, drift: bool, plan_only: bool, as_json: bool) -> int:
    """Remove the timers of hosts. Those of LiteLLM and of the plan go with their option, or with those of all hosts."""
    from swarm import timers

    names = _names(words, needed=not (litellm or drift))
    everything = words == "all"
    single = _single(litellm=litellm or everything, drift=drift or everything)
    done = timers.remove(names, single=single, plan_only=plan_only)
    return _show(done, (), as_json=as_json)


def status(words: str, *, as_json: bool) -> int:
    """Show the timers of hosts. Return 1 if the last run of one failed."""
    from swarm import timers

    everything = words == "all"
    single = _single(litellm=everything and _runs_litellm(), drift=everything)
    found = timers.status(_names(words), single=single)
    if as_json:
        screen().json([each.to_json() for each in found])
    else:
        screen().table(("host", "timer", "next", "last", "result"), [_row(each) for each in found])
    return int(any(each.failed for each in found))


def _single(*, litellm: bool, drift: bool) -> list[str]:
    from swarm import timers

    return [kind for kind, wanted in ((timers.HEALTH, litellm), (timers.DRIFT, drift)) if wanted]


def _names(words: str, *, needed: bool = True) -> list[str]:
    return [host.name for host in chosen(words).hosts] if words or needed else []


def _runs_litellm() -> bool:
    from swarm.litellm.environment import env_file

    return env_file().exists()


def _row(timer: Timer) -> tuple[str, ...]:
    result = f"✗ {timer.result}" if timer.failed else timer.result
    if not timer.installed:
        return timer.host, timer.kind, "not installed", "", ""
    return timer.host, timer.kind, _time(timer.next), _time(timer.last), result


def _time(value: datetime | None) -> str:
    return f"{value.astimezone():%Y-%m-%d %H:%M}" if value else "never"


def _show(done: Sequence[str], notes: Sequence[str], *, as_json: bool) -> int:
    talk = Talk(screen(), quiet=as_json)
    for line in done or ("nothing to do",):
        talk.say(line)
    for note in notes:
        talk.warn(note)
    if as_json:
        screen().json({"changed": bool(done), "changes": list(done), "notes": list(notes)})
    return 0
