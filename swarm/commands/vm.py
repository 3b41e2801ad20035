"""The commands about VMs: plan, provision, start, stop, destroy, console, pin."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarm.commands.render import Done, render
from swarm.commands.run import Outcome, chosen, run
from swarm.console import Talk, screen
from swarm.errors import UsageError
from swarm.inventory import Host, load

if TYPE_CHECKING:
    from swarm.commands.run import Selection
    from swarm.plan import Plan

__all__ = [
    "console",
    "destroy",
    "pin",
    "positive",
    "provision",
    "provisioned",
    "start",
    "stop",
    "user_data",
]


def provision(words: str, *, plan_only: bool, as_json: bool, restart: bool, limit: float) -> int:
    """Create or update VMs."""
    positive("--timeout", limit)
    outcomes = provisioned(chosen(words), plan_only=plan_only, restart=restart, limit=limit, quiet=as_json)
    return render(outcomes, as_json=as_json)


def provisioned(selection: Selection, *, quiet: bool = False, **options: Any) -> list[Outcome[Plan]]:
    """Run the verb `provision` with these options on the selected hosts.

    A VM that is made anew has nothing of the old one whose upgrade is unfinished, so the note about it goes.
    """
    from swarm.fleet import unfinished
    from swarm.vm.provision import provision as verb

    def one(host: Host, talk: Talk) -> Plan:
        return verb(host, talk, anew=lambda: unfinished.forget(host.name, talk), **options)

    return run(selection, one, quiet=quiet)


def start(words: str, limit: float, *, as_json: bool) -> int:
    """Start VMs."""
    from swarm.vm import verbs

    def one(host: Host, talk: Talk) -> Done:
        return Done(verbs.start(host, talk, limit), "started")

    positive("--timeout", limit)
    return render(run(chosen(words), one, quiet=as_json), as_json=as_json)


def stop(words: str, limit: float, *, force: bool, as_json: bool) -> int:
    """Stop VMs."""
    from swarm.vm import verbs

    def one(host: Host, talk: Talk) -> Done:
        return Done(verbs.stop(host, talk, force=force, limit=limit), "stopped")

    positive("--timeout", limit)
    return render(run(chosen(words), one, quiet=as_json), as_json=as_json)


def destroy(words: str, *, plan_only: bool, as_json: bool, yes: bool) -> int:
    """Remove VMs. An upgrade of one that is gone can't be completed, so its note goes too."""
    from swarm.fleet import unfinished
    from swarm.vm import verbs

    selection = chosen(words)
    if len(selection.hosts) > 1 and not yes and not plan_only:
        raise UsageError(
            "destroying several VMs needs --yes",
            f"./inv destroy --host {words} --plan shows what would be removed",
        )

    def one(host: Host, talk: Talk) -> Plan:
        plan = verbs.destroy(host, talk, plan_only=plan_only, yes=yes)
        if not plan_only:
            unfinished.forget(host.name, talk)
        return plan

    return render(run(selection, one, quiet=as_json), as_json=as_json)


def console(name: str, *, follow: bool, picture: str) -> None:
    """Show the serial log, or save the screen as a PNG file."""
    from swarm.vm import verbs

    host = load(name)
    if picture:
        path = Path(picture)
        if not path.parent.is_dir():
            raise UsageError(f"--screenshot: the folder {path.parent} does not exist")
        width, height = verbs.screenshot(host, path)
        Talk(screen()).say(f"{path}: {width} × {height} pixels")
        return
    if not follow:
        screen().text(verbs.console(host))
        return
    end = 0
    while True:
        lines, end = verbs.console_after(host, end)
        screen().text(lines)
        time.sleep(1)


def pin(name: str, *, yes: bool) -> None:
    """Pin a guest's current host key."""
    from swarm.vm import foreign
    from swarm.vm.pin import pin as verb

    host = load(name)
    if host.foreign:  # --yes would accept a key that nobody has seen
        foreign.pin(host, Talk(screen()))
    else:
        verb(host, Talk(screen()), yes=yes)


def user_data(name: str) -> int:
    """Write cloud-init's user data for a machine that swarm does not make."""
    from swarm.vm import foreign

    screen().text(foreign.user_data(load(name)).splitlines())
    return 0


def positive(option: str, value: float) -> None:
    """Raise UsageError unless `value` is a number of seconds that something can be waited for."""
    if not (value > 0 and math.isfinite(value)):
        raise UsageError(f"{option}: expected a number of seconds above 0, not {value:g}")
