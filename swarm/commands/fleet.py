"""The commands about the fleet: new, remove, and the check of the host files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from swarm.console import Talk, screen
from swarm.errors import SwarmError, UsageError
from swarm.inventory import load, names
from swarm.paths import expanded
from swarm.text import quote

if TYPE_CHECKING:
    from swarm.fleet.check import Report
    from swarm.fleet.new import Made, NewHost

__all__ = ["check", "new", "remove"]


def new(options: NewHost, folder: str, *, timer: bool, plan_only: bool, as_json: bool) -> int:
    """Write a host file, register the host, and offer its backup timer; or convert the old Ansible `folder`."""
    from swarm.fleet.new import new as verb

    if folder:
        if timer or any(vars(options).values()):
            raise UsageError(
                "--from can't be combined with other options than --plan and --json",
                f"./inv new --from {quote(folder)} takes everything from that folder",
            )
        return _bring(folder, plan_only=plan_only, as_json=as_json)
    if not options.name:
        raise UsageError(
            "new needs --host NAME, or --from FOLDER", "for example: ./inv new --host bee --like demo"
        )
    talk = Talk(screen(), quiet=as_json)
    made = verb(options, talk, plan_only=plan_only)
    if made.plan and not plan_only:
        talk.done(f"{options.name} is a host: {made.host.vm.ip}")
    timers, hints = _timer(made, talk, wanted=timer, plan_only=plan_only)
    commands = [*hints, *made.next]
    if as_json:
        changed = made.plan.changed or bool(timers)
        screen().json({**made.to_json(), "changed": changed, "timers": timers, "next": commands})
    elif not plan_only:
        for line in timers:
            talk.say(line)
        for command in commands:
            talk.say(f"next: {command}")
    return 0


def _timer(made: Made, talk: Talk, *, wanted: bool, plan_only: bool) -> tuple[list[str], list[str]]:
    """Install the backup timer if it is wanted, or if the person says so. Return the changes, and commands instead."""
    from swarm import timers

    name = made.host.name
    if ("backup", name) in timers.enabled():
        return [], []
    command = f"./inv timers.install --host {name}"
    if not wanted and not plan_only and not made.plan:
        return [], []  # a second run asks nothing
    if plan_only:
        return (timers.install([name], plan_only=True)[0], []) if wanted else ([], [command])
    if not wanted and not talk.ask(f"Back {name} up every night, by a timer of this user?"):
        return [], [command]
    done, notes = timers.install([name])
    for note in notes:
        talk.warn(note)
    return done, []


def _bring(folder: str, *, plan_only: bool, as_json: bool) -> int:
    """Convert an old Ansible folder. Return 1 if a host of it would be invalid."""
    from swarm.fleet.ansible import bring as verb

    talk = Talk(screen(), quiet=as_json)
    done = verb(expanded(Path(folder)), talk, plan_only=plan_only)
    if as_json:
        screen().json(done.to_json())
        return done.exit_code
    if done.left:
        talk.say(f"{len(done.left)} not carried over:")
        screen().text(each.line() for each in done.left)
    if written := [name for name, state in done.states.items() if state == "new"]:
        talk.say(f"next: ./inv plan --host {','.join(written)}")
    return done.exit_code


def remove(name: str, *, plan_only: bool, as_json: bool, yes: bool, force: bool = False) -> int:
    """Remove a host that has no VM."""
    from swarm.fleet.remove import remove as verb

    talk = Talk(screen(), quiet=as_json)
    plan = verb(name, talk, plan_only=plan_only, yes=yes, force=force)
    if as_json:
        screen().json({**plan.to_json(), "changed": plan.changed})
    elif plan and not plan_only:
        talk.done(f"removed the host {name}")
    return 0


def check(*, fix: bool, as_json: bool) -> int:
    """Show every disagreement. Return 1 if there is one."""
    from swarm.fleet.check import check as verb

    talk = Talk(screen(), quiet=as_json)
    if fix:
        _register(talk)
    report = verb(talk)
    with screen().verdict():
        if as_json:
            screen().json(report.to_json())
        else:
            _show(report, talk)
    return int(bool(report.findings))


def _register(talk: Talk) -> None:
    """Add every valid host to the instances file, or correct its entry."""
    from swarm.fleet import instances

    for name in names():
        try:
            host = load(name)
        except SwarmError:
            continue  # the check reports it
        if instances.put(host):
            talk.done(f"{name}: entry in {instances.read().path}")


def _show(report: Report, talk: Talk) -> None:
    for each in report.findings:
        screen().text([f"✗ {each.message}", f"  hint: {each.hint}"])
    for note in report.notes:
        talk.warn(note)
    if not report.findings:
        talk.done(f"{len(names())} host files, no disagreement")
