"""What each command of tasks.py does: choose the hosts, run the verb, show the result, return the exit code.

Heavy modules are imported where a command needs them, so that no command pays for another's.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarm.commands import run as fleet
from swarm.console import Talk, escape, screen
from swarm.errors import InventoryError, UsageError
from swarm.inventory import Host, cross_check, load, names, size
from swarm.text import amount

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from swarm.plan import Plan
    from swarm.ssh.guest import Guest

__all__ = [
    "console",
    "customize",
    "destroy",
    "doctor",
    "hosts",
    "images",
    "install",
    "pin",
    "plan",
    "provision",
    "ssh",
    "start",
    "status",
    "stop",
    "up",
    "verify",
]

CHANGES = 2  # the exit code of a plan that has changes, as terraform's -detailed-exitcode has it


def hosts(*, as_json: bool) -> int:
    """List the host files; what is wrong with one does not hide the others."""
    every, wrong = [], 0
    for name in names():
        try:
            every.append(load(name))
        except InventoryError as error:
            screen().error(error)
            wrong = error.exit_code
    try:
        cross_check(every)
    except InventoryError as error:
        screen().error(error)
        wrong = error.exit_code
    if as_json:
        screen().json([host.model_dump(mode="json") for host in every])
        return wrong
    rows = [
        (
            h.name,
            h.vm.domain,
            str(h.vm.ip),
            f"{h.vm.memory_mib} MiB",
            str(h.vm.vcpus),
            size(h.vm.disk_size),
            h.vm.image,
            h.hypervisor.uri,
        )
        for h in every
    ]
    screen().table(("host", "domain", "ip", "memory", "vCPUs", "disk", "image", "hypervisor"), rows)
    return wrong


def plan(words: str, *, as_json: bool) -> int:
    """Show what would change."""
    from swarm.vm.provision import provision as verb

    outcomes = fleet.run(
        fleet.chosen(words), lambda host, talk: verb(host, talk, plan_only=True), quiet=as_json
    )
    code = _end(outcomes, _plan_words, as_json=as_json)
    return code or (CHANGES if any(each.result for each in outcomes) else 0)


def provision(words: str, *, plan_only: bool, as_json: bool, restart: bool, limit: float) -> int:
    """Make or update VMs."""
    from swarm.vm.provision import provision as verb

    _positive("--timeout", limit)

    def one(host: Host, talk: Talk) -> Plan:
        return verb(host, talk, plan_only=plan_only, restart=restart, limit=limit)

    return _end(fleet.run(fleet.chosen(words), one, quiet=as_json), _plan_words, as_json=as_json)


def install(words: str, *, plan_only: bool, as_json: bool, upgrade: bool) -> int:
    """Install OpenClaw in guests."""

    def one(host: Host, guest: Guest, talk: Talk) -> Plan:
        from swarm import access
        from swarm.guest.install.steps import install as verb

        settings = host.openclaw.model_copy(update={"ssh_keys": tuple(access.authorized_keys(host))})
        return verb(guest, settings, talk, plan_only=plan_only, upgrade=upgrade)

    return _configure(words, one, as_json=as_json)


def customize(words: str, *, plan_only: bool, as_json: bool) -> int:
    """Apply settings and the user's own list in guests."""

    def one(host: Host, guest: Guest, talk: Talk) -> Plan:
        from swarm.guest.customize import customize as verb
        from swarm.inventory.inside import Share

        own = host.vm.virtiofs
        share = Share(tag=own.tag, target=str(own.target)) if own else None
        return verb(guest, host.guest, talk, share=share, user=host.openclaw.user, plan_only=plan_only)

    return _configure(words, one, as_json=as_json)


def verify(words: str, *, junit: str, as_json: bool) -> int:
    """Test every promise on guests."""
    from swarm import access
    from swarm.guest.install.trust import certificates
    from swarm.guest.verify import Expected, Verification
    from swarm.guest.verify import verify as verb
    from swarm.ssh import early

    chosen = fleet.chosen(words)
    if junit and len(chosen) > 1:
        raise UsageError("--junit writes the report of one host", "give one name to --host")

    def one(host: Host, talk: Talk) -> Verification:
        own, settings = host.vm.virtiofs, host.openclaw
        expected = Expected(
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
        guest = early.guest(access.reach(host), host.name)
        return verb(guest, expected, talk, junit=Path(junit) if junit else None)

    outcomes = fleet.run(chosen, one, quiet=as_json)
    found = [each.result for each in outcomes if each.result is not None]
    if as_json:
        screen().json([check for each in found for check in each.to_json()["checks"]])
    for each in () if as_json else found:
        for line in each.lines():
            screen().out.print(line)
        Talk(screen(), each.host).say(each.summary)
    return max([fleet.worst(outcomes), *(each.exit_code for each in found)])


def up(words: str, limit: float) -> int:
    """Provision, install, customize and verify; the first step that fails on any host ends it."""
    return (
        provision(words, plan_only=False, as_json=False, restart=False, limit=limit)
        or install(words, plan_only=False, as_json=False, upgrade=False)
        or customize(words, plan_only=False, as_json=False)
        or verify(words, junit="", as_json=False)
    )


def status(words: str, *, as_json: bool) -> int:
    """Show how each host is."""
    from swarm.vm import verbs

    chosen = fleet.chosen(words)
    if as_json or not screen().err.is_terminal:
        outcomes = fleet.run(chosen, lambda host, _: verbs.status(host), quiet=as_json)
    else:
        with screen().err.status("looking"):
            outcomes = fleet.run(chosen, lambda host, _: verbs.status(host))
    if as_json:
        screen().json([each.to_json() for each in outcomes])
    else:
        found = [each.result or verbs.Status(each.host.name, "unknown") for each in outcomes]
        screen().table(
            ("host", "VM", "acceleration", "ip", "SSH", "drift"),
            [(s.host, s.vm, s.acceleration, s.ip, s.ssh, s.drift) for s in found],
        )
    return fleet.worst(outcomes)


def ssh(name: str, user: str, words: Sequence[str]) -> int:
    """Become ssh."""
    from swarm import access
    from swarm import ssh as port

    host = load(name)
    access.reach(host)
    argv = port.argv(access.target(host), words, user=user)
    sys.stdout.flush()
    os.execvp(argv[0], argv)  # noqa: S606 - no shell takes part; ssh gets the terminal as it is


def console(name: str, *, follow: bool, picture: str) -> None:
    """Show the serial log or save the screen."""
    from swarm.vm import verbs

    host = load(name)
    if picture:
        path = Path(picture)
        if not path.parent.is_dir():
            raise UsageError(f"--screenshot: the folder {path.parent} does not exist")
        width, height = verbs.screenshot(host, path)
        screen().line(f"{path}: {width} × {height} pixels")
        return
    shown = 0
    while True:
        lines = verbs.console(host)
        if len(lines) < shown:  # the VM was started anew, and the log with it
            shown = 0
        for line in lines[shown:]:
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
        shown = len(lines)
        if not follow:
            return
        time.sleep(1)


def start(words: str, limit: float, *, as_json: bool) -> int:
    """Start VMs."""
    from swarm.vm import verbs

    _positive("--timeout", limit)
    outcomes = fleet.run(
        fleet.chosen(words), lambda host, talk: verbs.start(host, talk, limit), quiet=as_json
    )
    return _end(outcomes, lambda changed: "started" if changed else "nothing to do", as_json=as_json)


def stop(words: str, limit: float, *, force: bool, as_json: bool) -> int:
    """Stop VMs."""
    from swarm.vm import verbs

    _positive("--timeout", limit)
    outcomes = fleet.run(
        fleet.chosen(words),
        lambda host, talk: verbs.stop(host, talk, force=force, limit=limit),
        quiet=as_json,
    )
    return _end(outcomes, lambda changed: "stopped" if changed else "nothing to do", as_json=as_json)


def destroy(words: str, *, plan_only: bool, as_json: bool, yes: bool) -> int:
    """Remove VMs."""
    from swarm.vm import verbs

    chosen = fleet.chosen(words)
    if len(chosen) > 1 and not yes and not plan_only:
        raise UsageError(
            "several VMs are destroyed only with --yes",
            f"./inv destroy --host {words} --plan shows what would go",
        )
    outcomes = fleet.run(
        chosen, lambda host, talk: verbs.destroy(host, talk, plan_only=plan_only, yes=yes), quiet=as_json
    )
    return _end(outcomes, _plan_words, as_json=as_json)


def pin(name: str, *, yes: bool) -> None:
    """Pin the host key that a guest has now."""
    from swarm.vm.pin import pin as verb

    host = load(name)
    verb(host, Talk(screen()), yes=yes)


def images(*, prune: bool, yes: bool, as_json: bool) -> int:
    """List and prune images."""
    from swarm.vm import store

    talk = Talk(screen(), quiet=as_json)
    found = store.survey([load(name) for name in names()], talk)
    if not prune:
        screen().json(found.to_json()) if as_json else screen().table(
            ("where", "image", "size", "used by"), found.rows()
        )
        return 0
    unused = found.unused
    if not unused:
        talk.done("nothing to prune")
    elif not yes:
        for item in unused:
            talk.say(f"- {item.where}: {item.name}, {amount(item.size)}")
        yes = talk.ask("Delete these? They are fetched or built again when they are needed.")
        if not yes:
            raise UsageError("nothing was pruned", "answer y, or give --yes")
    for item in unused:
        item.remove()
        talk.done(f"deleted {item.name} ({amount(item.size)}) from {item.where}")
    if as_json:
        screen().json({"removed": [item.to_json() for item in unused]})
    return 0


def doctor(words: str, *, as_json: bool) -> int:
    """Check this machine."""
    from swarm.vm import doctor as checks

    findings = checks.examine(fleet.chosen(words))
    if as_json:
        screen().json([finding.to_json() for finding in findings])
    else:
        signs = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "failure": "[red]✗[/]"}
        for finding in findings:
            remedy = f"\n    [yellow]remedy:[/] {escape(finding.remedy)}" if finding.remedy else ""
            screen().out.print(f"{signs[finding.level]} {escape(finding.what)}{remedy}")
    return 1 if any(finding.level == "failure" for finding in findings) else 0


def _configure(words: str, verb: Callable[[Host, Guest, Talk], Plan], *, as_json: bool) -> int:
    """Run a verb that works over SSH. The connections begin before it, which has modules to load: so the one goes on during the other."""
    from swarm import access
    from swarm.ssh import early

    guests: dict[str, Guest] = {}

    def reach(host: Host) -> None:
        guests[host.name] = early.guest(access.reach(host), host.name)
        guests[host.name].connect()

    outcomes = fleet.run(
        fleet.chosen(words),
        lambda host, talk: verb(host, guests[host.name], talk),
        first=reach,
        quiet=as_json,
    )
    return _end(outcomes, _plan_words, as_json=as_json)


def _plan_words(plan: Plan) -> str:
    return f"{len(plan.changes)} changes" if plan else "nothing to do"


def _end(outcomes: list[fleet.Outcome[Any]], words: Any, *, as_json: bool) -> int:  # noqa: ANN401 - a function from any verb's result
    if as_json:
        screen().json([_changed(each) for each in outcomes])
    else:
        fleet.summary(outcomes, words)
    return fleet.worst(outcomes)


def _changed(outcome: fleet.Outcome[Any]) -> dict[str, Any]:
    data = outcome.to_json()
    return {**data, "changed": bool(outcome.result)}


def _positive(option: str, value: float) -> None:
    if value <= 0:
        raise UsageError(f"{option}: expected a number of seconds above 0, not {value:g}")
