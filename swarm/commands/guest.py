"""The commands that work in a guest over SSH: install, customize, verify, ssh. And `up`, which does everything."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarm.commands.render import render
from swarm.commands.run import Outcome, Selection, chosen, run
from swarm.commands.vm import positive, provisioned
from swarm.console import Talk, screen
from swarm.errors import UsageError
from swarm.inventory import load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from swarm.guest.verify import Expected, Promise
    from swarm.inventory import Host
    from swarm.plan import Plan
    from swarm.ssh.remote import Remote as Guest

    Verification = list[Promise]

__all__ = ["customize", "install", "ssh", "up", "verify"]


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
    selection, worst = chosen(words), 0
    steps: tuple[
        tuple[Callable[[Selection], list[Outcome[Any]]], Callable[[list[Outcome[Any]]], int]], ...
    ] = (
        (lambda hosts: provisioned(hosts, limit=limit), _show),
        (_installed, _show),
        (_customized, _show),
        (_verified, _show_verified),
    )
    for step, show in steps:
        outcomes = step(selection)
        worst = max(worst, show(outcomes))
        selection = Selection([each.host for each in outcomes if each.host and not each.error])
        if not selection.hosts:
            break
    return worst


def ssh(name: str, user: str, words: Sequence[str]) -> int:
    """Become ssh."""
    from swarm import access
    from swarm import ssh as port

    host = load(name)
    _config(host)
    argv = port.argv(access.target(host), words, user=user)
    sys.stdout.flush()
    os.execvp(argv[0], argv)  # noqa: S606 - no shell is involved, and ssh gets the terminal itself


def _show(outcomes: list[Outcome[Any]]) -> int:
    return render(outcomes, as_json=False)


def _installed(selection: Selection, *, quiet: bool = False, **options: Any) -> list[Outcome[Plan]]:
    def one(host: Host, guest: Guest, talk: Talk) -> Plan:
        from swarm import access
        from swarm.guest.install.steps import install as verb

        settings = host.openclaw.model_copy(update={"ssh_keys": tuple(access.authorized_keys(host))})
        return verb(guest, settings, talk, **options)

    return _over_ssh(selection, one, quiet=quiet)


def _customized(selection: Selection, *, quiet: bool = False, **options: Any) -> list[Outcome[Plan]]:
    def one(host: Host, guest: Guest, talk: Talk) -> Plan:
        from swarm.guest.customize import customize as verb
        from swarm.inventory.inside import Share

        own = host.vm.virtiofs
        share = Share(tag=own.tag, target=str(own.target)) if own else None
        return verb(guest, host.guest, talk, share=share, user=host.openclaw.user, **options)

    return _over_ssh(selection, one, quiet=quiet)


def _over_ssh(
    selection: Selection, verb: Callable[[Host, Guest, Talk], Plan], *, quiet: bool
) -> list[Outcome[Plan]]:
    """Run a verb that works over SSH. Connections begin first, so that the verb's modules load while they are made."""
    guests: dict[str, Guest] = {}

    def reach(host: Host) -> None:
        guests[host.name] = _guest(_config(host), host.name)
        guests[host.name].connect()

    return run(selection, lambda host, talk: verb(host, guests[host.name], talk), first=reach, quiet=quiet)


def _guest(config: Path, name: str) -> Guest:
    """Return the guest, whose connection may have begun before the command was parsed."""
    from swarm.ssh import early

    return early.remote(config, name)


def _verified(
    selection: Selection, *, junit: Path | None = None, quiet: bool = False
) -> list[Outcome[Verification]]:
    def one(host: Host, talk: Talk) -> Verification:
        from swarm.guest.verify import verify as verb

        return verb(_config(host), host.name, _expected(host), talk, junit=junit)

    return run(selection, one, quiet=quiet)


def _show_verified(outcomes: Sequence[Outcome[Verification]], *, as_json: bool = False) -> int:
    """Render what `verify` found. This and `Verification` above are all that depends on the type of its result."""
    from swarm.guest.verify import count

    found = [(each.name, promise) for each in outcomes for promise in each.result or ()]

    def data(_: object) -> list[dict[str, Any]]:
        return [{"host": name, **asdict(promise)} for name, promise in found]

    def table(_: object) -> None:
        if found:
            screen().table(
                ("host", "", "promise", "found"), [(name, *promise.row) for name, promise in found]
            )
        for each in outcomes:
            if each.result is not None:
                Talk(screen(), each.name).say(count(each.result))

    code = render(outcomes, as_json=as_json, data=data, table=table)
    return max(code, int(any(promise.result == "broken" for _, promise in found)))


def _expected(host: Host) -> Expected:
    """Return what a host file promises about its guest."""
    from swarm import access
    from swarm.guest.install.trust import certificates
    from swarm.guest.verify import Expected

    own, settings = host.vm.virtiofs, host.openclaw
    return Expected(
        user=settings.user,
        port=settings.port,
        secure_boot=True,
        tpm=True,
        share=(own.tag, str(own.target)) if own else None,
        swappiness=host.guest.swappiness,
        timezone=host.guest.timezone,
        ssh_keys=tuple(access.authorized_keys(host)),
        openclaw_version=settings.version,
        buildx=settings.docker_source == "docker.com",
        tailscale=settings.tailscale_enabled,
        authorities=tuple(certificates(settings).values()),
    )


def _config(host: Host) -> Path:
    """Return the generated ssh_config of this host alone. Raise Unreachable if the host has no pinned key."""
    from swarm import access
    from swarm import ssh as port
    from swarm.errors import Unreachable

    if not host.known_hosts.exists():
        raise Unreachable(
            f"{host.name} has no pinned host key, so its identity can't be checked",
            f"./inv provision --host {host.name} creates the VM, or pins the key of an existing one; "
            f"for a machine that swarm did not make, put {host.name} and its ssh_host_ed25519_key.pub "
            f"as one line into {host.known_hosts}",
        )
    port.write_config(access.target(host))
    return port.part_path(host.name)
