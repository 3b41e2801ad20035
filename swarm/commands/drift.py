"""`inv plan`: everything that differs from the host files, over VM, guest, hook, timers, backups and LiteLLM.

Nothing is changed. Each part is asked on its own, so that one that can't be examined does not hide the others.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from swarm.commands.run import Outcome, chosen, run
from swarm.console import Talk, escape, screen
from swarm.errors import SwarmError, UsageError, explained
from swarm.plan import Change, Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from swarm.inventory import Host

__all__ = ["PARTS", "Drift", "plan"]

CHANGES = 2  # the exit code if anything differs, as with terraform's -detailed-exitcode

# The parts in the order of their work, with their headings.
PARTS = {
    "vm": "VM",
    "guest": "guest",
    "agentmon": "agentmon",
    "timers": "timers",
    "backup": "backup",
    "litellm": "LiteLLM",
}
_NOT_RUNNING = {
    "start",
    "first_boot",
    "boot",
    "restart",
    "pin",
}  # keys of changes before which no guest answers
_IN_GUEST = ("guest", "agentmon")
_MACHINE, _LITELLM = "this machine", "LiteLLM"  # names that no host can have


@dataclass
class Drift:
    """What differs on one host, by part, and what could not be examined."""

    host: str
    plans: dict[str, Plan] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    errors: dict[str, SwarmError] = field(default_factory=dict)

    @property
    def changes(self) -> list[tuple[str, Change]]:
        """The changes of all parts, each with its part."""
        return [(part, change) for part in PARTS for change in self.plans.get(part, ())]

    @property
    def changed(self) -> bool:
        """Whether anything differs."""
        return bool(self.changes)

    @property
    def exit_code(self) -> int:
        """1 if a part could not be examined, else 0."""
        return int(bool(self.errors))

    @property
    def summary(self) -> str:
        """The numbers of changes in a few words: '3 changes: VM 1, guest 2'."""
        count = len(self.changes)
        failed = f"not examined: {', '.join(PARTS[part] for part in self.errors)}" if self.errors else ""
        if not count:
            return failed or "nothing to do"
        parts = [f"{PARTS[part]} {len(plan.changes)}" for part, plan in self.plans.items() if plan]
        words = f"{count} change{'s' if count > 1 else ''}: {', '.join(parts)}"
        return f"{words}; {failed}" if failed else words

    def to_json(self) -> dict[str, Any]:
        """Return the drift as plain data."""
        return {
            "changes": [{"part": part, **change.to_json()} for part, change in self.changes],
            "notes": self.notes,
            "not_examined": {
                part: {"message": error.message, "hint": error.hint} for part, error in self.errors.items()
            },
        }


def plan(words: str, *, only: str, as_json: bool) -> int:
    """Show what differs. Return 0 if nothing does, 2 if something does, 1 if something could not be examined."""
    parts = _parts(only)
    outcomes = run(chosen(words), lambda host, talk: _of_host(host, parts, talk), quiet=as_json)
    if words == "all":
        outcomes += _of_machine(parts, quiet=as_json)
    from swarm.commands.render import render

    code = render(outcomes, as_json=as_json)
    return code or (CHANGES if any(each.result and each.result.changed for each in outcomes) else 0)


def _parts(only: str) -> list[str]:
    wanted = [word.strip() for word in only.split(",") if word.strip()] or list(PARTS)
    if unknown := [word for word in wanted if word not in PARTS]:
        raise UsageError(f"--only: there is no part {unknown[0]!r}", f"choose from: {', '.join(PARTS)}")
    return wanted


def _of_host(host: Host, parts: Sequence[str], talk: Talk) -> Drift:
    drift, silent = Drift(host.name), Talk(talk.screen, talk.host, quiet=True)
    asks: dict[str, Callable[[], Plan]] = {
        "vm": lambda: _vm(host, silent),
        "guest": lambda: _guest(host, silent),
        "agentmon": lambda: _agentmon(host, silent),
        "timers": lambda: _timers(host),
        "backup": lambda: _backup(host),
    }
    with talk.screen.spinner(f"examining {host.name}", quiet=bool(talk.host)):
        for part, ask in asks.items():
            if part in parts:
                _examine(drift, part, ask, host)
    _show(drift, talk)
    return drift


def _examine(drift: Drift, part: str, ask: Callable[[], Plan], host: Host) -> None:
    if part in _IN_GUEST and (reason := _out_of_reach(drift, host)):
        if reason not in drift.notes:
            drift.notes.append(reason)
        return
    if part == "agentmon" and "guest" in drift.errors:
        return  # the same guest would refuse again, after the same wait
    try:
        drift.plans[part] = ask()
    except Exception as error:  # noqa: BLE001 - it is this part's error, and the others go on
        drift.errors[part] = explained(error)


def _out_of_reach(drift: Drift, host: Host) -> str:
    """Say why the guest can't be examined now, although nothing is wrong; empty if it can."""
    keys = {change.key for change in drift.plans.get("vm", ())}
    if _NOT_RUNNING & keys or not host.known_hosts.exists():
        return "the guest is not examined, because it does not run yet"
    return ""


def _show(drift: Drift, talk: Talk) -> None:
    from swarm.reconcile import show

    for part, found in drift.plans.items():
        if found:
            if part != "vm":
                talk.say(f"{PARTS[part]}:")
            show(found, talk)
    for note in drift.notes:
        talk.say(note)
    for part, error in drift.errors.items():
        hint = f" ({error.hint})" if error.hint else ""
        talk.screen.line(f"{talk.prefix}[red]✗[/] {PARTS[part]} not examined: {escape(error.message + hint)}")
    if not (drift.changed or drift.errors or drift.notes):
        talk.say(drift.summary)


# ── the parts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _vm(host: Host, talk: Talk) -> Plan:
    from swarm.vm.provision import provision

    return provision(host, talk, plan_only=True)


def _guest(host: Host, talk: Talk) -> Plan:
    from swarm.commands.guest import customizing
    from swarm.fleet.parts import installing, link

    way = link(host)
    first = installing(host, way, talk, plan_only=True)
    return Plan(host.name, (*first.changes, *customizing(host, way, talk, plan_only=True).changes))


def _agentmon(host: Host, talk: Talk) -> Plan:
    if host.agentmon is None:
        return Plan(host.name)
    from swarm.agentmon.deploy import deploy
    from swarm.fleet.parts import connect

    return deploy(connect(host), host, talk, plan_only=True)


def _timers(host: Host) -> Plan:
    """Only timers that are installed can drift: whether a host has any is the user's choice."""
    from swarm import timers

    return _planned_timers(host.name, timers.drift(host.name))


def _planned_timers(name: str, found: Sequence[tuple[str, str]]) -> Plan:
    return Plan(name, tuple(Change("update", unit, before=why) for unit, why in found))


def _backup(host: Host) -> Plan:
    from swarm.backup import health, record

    found, now = record.load(host.name), time.time()
    states = {"backup": health.of_backup(found, now), "drill": health.of_drill(found, now)}
    return Plan(
        host.name,
        tuple(
            Change("run", verb, words.removeprefix("✗ "), f"./inv {verb} --host {host.name}")
            for verb, words in states.items()
            if words.startswith("✗")
        ),
    )


# ── what is no host's ────────────────────────────────────────────────────────────────────────────────────────────────


def _of_machine(parts: Sequence[str], *, quiet: bool) -> list[Outcome[Drift]]:
    """Examine what this machine has once for all hosts, each part that it has."""
    asks: dict[str, tuple[str, Callable[[], Plan | None]]] = {
        "timers": (_MACHINE, _machine_timers),
        "litellm": (_LITELLM, _litellm),
    }
    found = [_once(part, *asks[part], quiet=quiet) for part in asks if part in parts]
    return [each for each in found if each]


def _once(part: str, name: str, ask: Callable[[], Plan | None], *, quiet: bool) -> Outcome[Drift] | None:
    drift, start = Drift(name), time.monotonic()
    try:
        found = ask()
    except Exception as error:  # noqa: BLE001 - as for a host
        drift.errors[part] = explained(error)
    else:
        if found is None:
            return None
        drift.plans[part] = found
    _show(drift, Talk(screen(), name, quiet=quiet))
    return Outcome(name, drift, None, time.monotonic() - start)


def _machine_timers() -> Plan | None:
    """What is wrong with the timers of LiteLLM's health check and of the plan itself. None: neither is installed."""
    from swarm import timers

    found = timers.machine_drift()
    return None if found is None else _planned_timers(_MACHINE, found)


def _litellm() -> Plan | None:
    """What is different about LiteLLM on this machine. None: it has none."""
    from swarm.litellm.environment import env_file

    if not env_file().exists():
        return None
    from swarm.commands.models import planned

    return planned(Talk(screen(), quiet=True))
