"""The commands that work in a guest over SSH: install, customize, verify, ssh. And `up`, which does everything."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarm import history
from swarm.commands.render import render
from swarm.commands.run import Outcome, Selection, chosen, in_turn, run
from swarm.commands.vm import positive, provisioned
from swarm.errors import UsageError
from swarm.inventory import load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from swarm.commands.run import Step
    from swarm.console import Talk
    from swarm.guest.verify import Expected, Verification
    from swarm.inventory import Host
    from swarm.plan import Plan
    from swarm.ssh.guest import Guest

__all__ = [
    "customize",
    "customizing",
    "install",
    "installing",
    "making",
    "ssh",
    "up",
    "verify",
    "verifying",
]


def install(words: str, *, plan_only: bool, as_json: bool, upgrade: bool) -> int:
    """Install OpenClaw in guests."""
    outcomes = _installed(chosen(words), plan_only=plan_only, upgrade=upgrade, quiet=as_json)
    return render(outcomes, as_json=as_json)


def customize(words: str, *, plan_only: bool, as_json: bool) -> int:
    """Apply settings and the user's own list in guests."""
    return render(_customized(chosen(words), plan_only=plan_only, quiet=as_json), as_json=as_json)


def verify(words: str, *, junit: str, as_json: bool) -> int:
    """Test every promise on guests."""
    selection = chosen(words)
    if junit and selection.several:
        raise UsageError("--junit writes the report of one host", "give one name to --host")
    outcomes = _verified(selection, junit=Path(junit) if junit else None, quiet=as_json)
    return _show_verified(outcomes, as_json=as_json)


def up(words: str, limit: float) -> int:
    """Provision, install, customize and verify. A host that fails in one step is left out of the later ones."""
    positive("--timeout", limit)
    start = time.monotonic()

    def remember(selection: Selection) -> list[Outcome[Any]]:
        for host in selection.hosts:
            history.append(host.name, "up", seconds=round(time.monotonic() - start, 3))
        return []

    return in_turn(chosen(words), (*making(limit), verifying(), (remember, lambda _: 0)))


def making(limit: float) -> tuple[Step, ...]:
    """Return the steps that make a host: provision, install, customize."""
    return (
        (lambda hosts: provisioned(hosts, limit=limit), _show),
        (_installed, _show),
        (_customized, _show),
    )


def verifying() -> Step:
    """Return the step that verifies a host."""
    return _verified, _show_verified


def ssh(name: str, user: str, words: Sequence[str]) -> int:
    """Become ssh."""
    from swarm import access
    from swarm import ssh as port

    host = load(name)
    access.reach(host)
    argv = port.argv(access.target(host), words, user=user)
    sys.stdout.flush()
    os.execvp(argv[0], argv)  # noqa: S606 - no shell is involved, and ssh gets the terminal itself


def _show(outcomes: list[Outcome[Any]]) -> int:
    return render(outcomes, as_json=False)


def installing(host: Host, guest: Guest, talk: Talk, **options: Any) -> Plan:
    """Install OpenClaw in one guest, with the options of swarm.guest.install. Return the changes."""
    from swarm import access
    from swarm.guest.install.steps import install as verb

    settings = host.openclaw.model_copy(update={"ssh_keys": tuple(access.authorized_keys(host))})
    return verb(guest, settings, talk, **options)


def customizing(host: Host, guest: Guest, talk: Talk, **options: Any) -> Plan:
    """Apply settings and the user's own list in one guest. Return the changes."""
    from swarm.guest.customize import customize as verb
    from swarm.inventory.inside import Share

    own = host.share
    share = Share(tag=own.tag, target=str(own.target)) if own else None
    return verb(guest, host.guest, talk, share=share, user=host.openclaw.user, **options)


def _installed(selection: Selection, *, quiet: bool = False, **options: Any) -> list[Outcome[Plan]]:
    def one(host: Host, guest: Guest, talk: Talk) -> Plan:
        if host.agentmon:
            from swarm.agentmon.hook import variables

            variables(host.agentmon, host.name)  # refuses now what would be refused after the installation
        plan = installing(host, guest, talk, **options)
        return _with_hook(plan, host, guest, talk, plan_only=bool(options.get("plan_only")))

    return _over_ssh(selection, one, quiet=quiet)


def _with_hook(plan: Plan, host: Host, guest: Guest, talk: Talk, *, plan_only: bool) -> Plan:
    """Deploy agentmon's hook if the host file has its section. Return the changes of both."""
    if not host.agentmon:
        return plan
    from swarm.agentmon.deploy import deploy

    hook = deploy(guest, host, talk, plan_only=plan_only, tell=False)
    return replace(plan, changes=(*plan.changes, *hook.changes))


def _customized(selection: Selection, *, quiet: bool = False, **options: Any) -> list[Outcome[Plan]]:
    return _over_ssh(
        selection, lambda host, guest, talk: customizing(host, guest, talk, **options), quiet=quiet
    )


def _over_ssh(
    selection: Selection, verb: Callable[[Host, Guest, Talk], Plan], *, quiet: bool
) -> list[Outcome[Plan]]:
    """Run a verb that works over SSH. Connections begin first, so that the verb's modules load while they are made."""
    guests: dict[str, Guest] = {}

    def reach(host: Host) -> None:
        guests[host.name] = _connect(host)
        guests[host.name].connect()

    return run(selection, lambda host, talk: verb(host, guests[host.name], talk), first=reach, quiet=quiet)


def _connect(host: Host) -> Guest:
    """Return the guest. Its connection may have begun before the command was parsed."""
    from swarm import access
    from swarm.ssh import early

    return early.guest(access.reach(host), host.name)


def _verified(
    selection: Selection, *, junit: Path | None = None, quiet: bool = False
) -> list[Outcome[Verification]]:
    def one(host: Host, talk: Talk) -> Verification:
        from swarm.guest.verify import verify as verb

        return verb(_connect(host), _expected(host), talk, junit=junit)

    return run(selection, one, quiet=quiet)


def _show_verified(outcomes: Sequence[Outcome[Verification]], *, as_json: bool = False) -> int:
    """Show the checks of each host and return the exit code. JSON is one list of the checks of all hosts."""

    def data(_: object) -> list[dict[str, Any]]:
        return [check for each in outcomes if each.result for check in each.result.to_json()["checks"]]

    return render(outcomes, as_json=as_json, data=data)


def _expected(host: Host) -> Expected:
    """Return what a host file promises about its guest."""
    from swarm import access
    from swarm.guest.install.trust import certificates
    from swarm.guest.verify import Expected

    own, settings = host.share, host.openclaw
    return Expected(
        user=settings.user,
        port=settings.port,
        secure_boot=not host.foreign,
        tpm=not host.foreign,
        share=(own.tag, str(own.target)) if own else None,
        swappiness=host.guest.swappiness,
        timezone=host.guest.timezone,
        ssh_keys=tuple(access.authorized_keys(host)),
        openclaw_version=settings.version,
        buildx=settings.docker_source == "docker.com",
        tailscale=settings.tailscale_enabled,
        authorities=tuple(certificates(settings).values()),
        agentmon=host.agentmon is not None,
    )
