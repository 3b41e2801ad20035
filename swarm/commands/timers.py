"""The commands about timers: install, status, remove."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from swarm.commands.run import Selection, chosen
from swarm.console import Talk, screen

if TYPE_CHECKING:
    from datetime import datetime

    from swarm.timers import Timer

__all__ = ["install", "remove", "status"]


class _Work(Protocol):
    """What changes timers. It returns the changes, and notes."""

    def __call__(self, *, plan_only: bool) -> tuple[list[str], list[str]]: ...


def install(words: str, *, drill: bool, litellm: bool, drift: bool, plan_only: bool, as_json: bool) -> int:
    """Install the timers of hosts, that of LiteLLM if this machine runs it, and with `drift` that of the plan."""
    from swarm import timers

    names, code = _names(words, needed=not (litellm or drift))
    single = _single(litellm=litellm or _runs_litellm(), drift=drift)
    carry_out = partial(timers.install, names, drill=drill, single=single)
    _carry_out(carry_out, plan_only=plan_only, as_json=as_json)
    return code


def remove(words: str, *, litellm: bool, drift: bool, plan_only: bool, as_json: bool) -> int:
    """Remove the timers of hosts. Those of LiteLLM and of the plan go with their option, or with those of all hosts."""
    from swarm import timers

    names, code = _names(words, needed=not (litellm or drift))
    everything = words == "all"
    single = _single(litellm=litellm or everything, drift=drift or everything)

    def carry_out(*, plan_only: bool) -> tuple[list[str], list[str]]:
        return timers.remove(names, single=single, plan_only=plan_only), []

    _carry_out(carry_out, plan_only=plan_only, as_json=as_json)
    return code


def status(words: str, *, as_json: bool) -> int:
    """Show the timers of hosts. Return 1 if the last run of one failed, or if a host file can't be used."""
    from swarm import timers

    everything = words == "all"
    single = _single(litellm=everything and _runs_litellm(), drift=everything)
    names, code = _names(words)
    found = timers.status(names, single=single)
    if as_json:
        screen().json([each.to_json() for each in found])
    else:
        screen().table(("host", "timer", "next", "last", "result"), [_row(each) for each in found])
    return max([code, *(int(each.failed) for each in found)])


def _single(*, litellm: bool, drift: bool) -> list[str]:
    from swarm import timers

    return [kind for kind, wanted in ((timers.HEALTH, litellm), (timers.DRIFT, drift)) if wanted]


def _names(words: str, *, needed: bool = True) -> tuple[list[str], int]:
    """Return the hosts, and the exit code for the host files that can't be used, whose errors are shown.

    Raise such an error if there is no other host.
    """
    selection = chosen(words) if words or needed else Selection([])
    if selection.broken and not selection.hosts:
        raise next(iter(selection.broken.values()))
    for name, error in selection.broken.items():
        screen().error(error, Talk(screen(), name).prefix)
    code = max((error.exit_code for error in selection.broken.values()), default=0)
    return [host.name for host in selection.hosts], code


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


def _carry_out(carry_out: _Work, *, plan_only: bool, as_json: bool) -> None:
    """Show the changes, make them unless `plan_only`, and then show what could not be known before."""
    talk = Talk(screen(), quiet=as_json)
    done, notes = planned, _ = carry_out(plan_only=True)
    for line in planned:
        talk.say(line)
    if not plan_only:
        done, notes = carry_out(plan_only=False)
    for line in [each for each in done if each not in planned]:
        talk.say(line)
    if not done and not planned:
        talk.say("nothing to do")
    for note in notes:
        talk.warn(note)
    if as_json:
        screen().json({"changed": bool(done), "changes": done, "notes": notes})
