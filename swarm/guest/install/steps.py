"""`inv install`: from a bare Debian or Ubuntu to a hardened host with a ready OpenClaw gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.errors import CommandFailed, Refused
from swarm.guest.engine.converge import converge
from swarm.guest.engine.talker import limits
from swarm.guest.install import openclaw, pins
from swarm.guest.install.checks import checks
from swarm.guest.install.former import former_accounts
from swarm.guest.install.gateway import gateway
from swarm.guest.install.hardening import hardening, sudoers
from swarm.guest.install.software import auth_key, docker, found_node, node, tailscale
from swarm.guest.install.sshd import sshd
from swarm.guest.install.trust import authorities, certificates
from swarm.guest.kinds.files import once
from swarm.guest.kinds.packages import packages
from swarm.paths import expanded
from swarm.ssh.config import PORT
from swarm.templates import render
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from swarm.console import Talk
    from swarm.deadline import Deadline
    from swarm.guest.engine.step import Step
    from swarm.guest.engine.talker import Reached
    from swarm.inventory.inside import InstallSettings
    from swarm.plan import Plan

__all__ = ["install", "steps"]

_READING = 60.0  # seconds for a small file, on a guest under emulation
# dbus-user-session: without a bus of the user's own there are no user units, and so no gateway.
_TOOLS = (
    "acl",
    "build-essential",
    "ca-certificates",
    "curl",
    "dbus-user-session",
    "git",
    "jq",
    "rsync",
    "sudo",
    "tmux",
    "vim",
)


def install(
    guest: Reached,
    settings: InstallSettings,
    talk: Talk,
    *,
    ssh_port: int = PORT,
    plan_only: bool = False,
    upgrade: bool = False,
    deadline: Deadline | None = None,
) -> Plan:
    """Install OpenClaw and everything that it needs on the guest. Return the changes that were made, or would be.

    `ssh_port` is where the guest's SSH server is reached, and stays open. With `upgrade`, packages are brought to their
    newest versions and the channel is resolved again. Raise Refused before anything is changed if it cannot work,
    CommandFailed if a step fails, Unreachable if the connection breaks, and VerificationFailed if another host has got
    another archive of the same release.
    """
    with guest.connecting():
        wanted = steps(settings, ssh_port=ssh_port, upgrade=upgrade, known=pins.known())
    plan = converge(guest, wanted, talk, plan_only=plan_only, deadline=deadline)
    # After an interruption the release may be recorded already, and only the package is left.
    changed = {change.subject for change in plan} & {openclaw.RELEASE, openclaw.PACKAGE}
    if changed and not plan_only:
        pins.learn(guest.alias, _record(guest))
    return plan


def _record(guest: Reached) -> str:
    """Return the guest's record of its release. Raise CommandFailed if it can't be read."""
    lines: list[bytes] = []
    done = guest.script(
        f"head -c 4096 -- {quote(openclaw.RECORD)}", lines.append, limits(_READING, None)
    ).join()
    if done.exited:
        raise CommandFailed(
            f"{guest.alias}: reading the record of OpenClaw's release failed with exit code {done.exited}"
        )
    return b"\n".join(lines).decode("utf-8", "replace")


def steps(
    settings: InstallSettings,
    *,
    ssh_port: int = PORT,
    upgrade: bool = False,
    known: Mapping[str, str] | None = None,
) -> list[Step]:
    """Return every step of the installation. Raise Refused if a file that the settings name can't be read.

    `ssh_port` stays open. `known` are the checksums of releases that were installed before, by PACKAGE@VERSION.
    """
    trust = authorities(certificates(settings))
    tools = packages("tools", _TOOLS, after=(trust[0].subject,), upgrade=upgrade)
    base = (tools.subject,)
    former = former_accounts(settings, base)
    account = openclaw.account(settings, base)
    containers = docker(settings, base, account[0].subject, upgrade=upgrade)
    runtime = node(settings, base, upgrade=upgrade)
    found = found_node(settings, (runtime[-1].subject, account[0].subject))
    program = openclaw.software(settings, (found.subject,), upgrade=upgrade, pins=known)
    return [
        *checks(),
        *trust,
        tools,
        once("/etc/vim/vimrc.local", render("guest/vimrc.local.j2"), after=base),
        once("/etc/gitconfig", render("guest/gitconfig.j2"), after=base),
        *hardening(settings, base, ssh_port),
        former,
        *sshd(settings, base),
        *account,
        sudoers(settings, base),
        *containers,
        *_tailscale(settings, base, upgrade=upgrade),
        *runtime,
        found,
        *program,
        *gateway(
            settings,
            program=(program[-1].subject,),
            account=(former.subject, account[0].subject, containers[-1].subject),
            config=_config(settings),
        ),
    ]


def _tailscale(settings: InstallSettings, after: tuple[str, ...], *, upgrade: bool) -> list[Step]:
    if not settings.tailscale_enabled:
        return []
    return tailscale(settings, after, auth_key(settings), upgrade=upgrade)


def _config(settings: InstallSettings) -> str | None:
    if settings.config is None:
        return None
    try:
        return expanded(settings.config).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "not UTF-8 text")
        raise Refused(f"openclaw.config: {settings.config} can't be read: {reason}") from None
