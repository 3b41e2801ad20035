"""What the verbs of several layers take from a host file: the calls into a guest, its promises, and its backups."""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from swarm.errors import VerificationFailed

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.backup.catalog import Catalog
    from swarm.backup.mirror import Source
    from swarm.backup.restore import Target
    from swarm.console import Talk
    from swarm.guest.verify import Expected
    from swarm.inventory import Host
    from swarm.locks import Lock
    from swarm.plan import Plan
    from swarm.ssh.guest import Guest
    from swarm.ssh.link import Link

__all__ = [
    "catalog",
    "connect",
    "expected",
    "installing",
    "installing_all",
    "link",
    "source",
    "target",
    "versions",
]


_LOOKING = 60.0  # seconds for a small answer from a guest under emulation
_RECORD = 4096  # bytes; a record has 160


def link(host: Host) -> Link:
    """Return how the guest is reached. Its connection may have begun before the command was parsed."""
    from swarm import access
    from swarm.ssh import early

    return early.link(access.reach(host), host.name)


def connect(host: Host) -> Guest:
    """Return the guest, on the connection of link()."""
    return _over(link(host))


def _over(way: Link) -> Guest:
    from swarm.ssh.guest import Guest

    return Guest(way.config, way.alias, link=way)


def installing(host: Host, way: Link, talk: Talk, **options: Any) -> Plan:
    """Install OpenClaw in one guest, with the options of swarm.guest.install. Return the changes."""
    from swarm import access
    from swarm.guest.install.steps import install as verb

    settings = host.openclaw.model_copy(update={"ssh_keys": tuple(access.authorized_keys(host))})
    return verb(way, settings, talk, ssh_port=access.port(host), **options)


def installing_all(host: Host, way: Link, talk: Talk, **options: Any) -> Plan:
    """Install OpenClaw, and agentmon's hook if the host file has its section. Return the changes of both."""
    if host.agentmon:
        from swarm.agentmon.hook import variables

        variables(host.agentmon, host.name)  # refuses now what would be refused after the installation
    plan = installing(host, way, talk, **options)
    if not host.agentmon:
        return plan
    from swarm.agentmon.deploy import deploy

    hook = deploy(_over(way), host, talk, plan_only=bool(options.get("plan_only")), tell=False)
    return replace(plan, changes=(*plan.changes, *hook.changes))


def expected(host: Host) -> Expected:
    """Return what a host file promises about its guest."""
    from swarm import access
    from swarm.guest.install.trust import certificates
    from swarm.guest.verify import Expected
    from swarm.vm import egress

    own, settings = host.share, host.openclaw
    return Expected(
        user=settings.user,
        port=settings.port,
        ssh_port=access.port(host),
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
        filtered=egress.filtered(host),
        allow=tuple(map(str, egress.allowed(host))) if host.own_vm else (),
    )


def source(host: Host, way: Link) -> Source:
    """Return what a backup of a host reads from."""
    from swarm.backup.mirror import Source

    settings = host.openclaw
    return Source(way, host.name, host.hostname, settings.user, settings.config_dir)


def target(host: Host, guest: Guest, lock: Lock) -> Target:
    """Return where a restore of a host writes to, while the host's `lock` is held."""
    from swarm.backup.restore import Target

    settings = host.openclaw
    return Target(guest, host.name, settings.user, settings.config_dir, settings.port, lock=lock)


def catalog(host: Host, identity: Path | None = None) -> Catalog:
    """Return the archives of a host. `identity` is a file with an age secret key."""
    from swarm.backup.catalog import Catalog

    return Catalog(host.name, host.backup, identity)


def versions(host: Host, talk: Talk) -> tuple[str, str]:
    """Return the installed version of OpenClaw, and the text of the guest's record. Show them and Node's."""
    from swarm import access
    from swarm.fleet.guest import look
    from swarm.guest.install.openclaw import RECORD

    with talk.step("look up the versions", silent=True), connect(host) as guest:
        script = (
            f"node --version 2>/dev/null || echo none\nhead -c {_RECORD} {RECORD} 2>/dev/null | base64 -w 0"
        )
        node, _, coded = guest.check(script, "looking up the versions", timeout=_LOOKING).partition("\n")
        installed = look(access.reach(host), host.name, host.openclaw, spool=False).openclaw
    try:
        record = base64.b64decode(coded, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        raise VerificationFailed(
            f"{host.name}: {RECORD} in the guest can't be read", f"./inv install --host {host.name}"
        ) from None
    talk.say(f"installed: OpenClaw {installed or 'none'}, Node {node.strip()[:64]}")
    return installed, record
