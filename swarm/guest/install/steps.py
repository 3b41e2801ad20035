"""`inv install`: from a bare Debian or Ubuntu to a hardened host with a ready OpenClaw gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.errors import Refused
from swarm.guest.engine.converge import converge
from swarm.guest.install import openclaw
from swarm.guest.install.hardening import hardening, sudoers
from swarm.guest.install.software import NODE_DONE, auth_key, docker, node, tailscale
from swarm.guest.install.trust import authorities, certificates
from swarm.guest.kinds.basic import check, file
from swarm.guest.kinds.packages import packages
from swarm.templates import render

if TYPE_CHECKING:
    from swarm.console import Talk
    from swarm.deadline import Deadline
    from swarm.guest.engine.probe import Step
    from swarm.inventory.inside import InstallSettings
    from swarm.plan import Plan
    from swarm.ssh.remote import Remote

__all__ = ["install", "steps"]

# dbus-user-session: without a bus of the user's own there is no user unit, and so no gateway.
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
_SYSTEMS = {"debian": 12, "ubuntu": 22}  # the lowest major release with all that is used here
_MACHINES = {"amd64", "arm64"}
_FREE_MIB = 4096  # OpenClaw with its store 1.0 GiB, Docker and tools 0.9, and room to unpack


def install(
    remote: Remote,
    settings: InstallSettings,
    talk: Talk,
    *,
    plan_only: bool = False,
    upgrade: bool = False,
    deadline: Deadline | None = None,
) -> Plan:
    """Install OpenClaw and all that belongs to it on the host; return what was, or would be, done.

    With `upgrade`, packages are brought to their newest version and the channel is resolved anew. Raise SwarmError: Refused before
    anything was changed if it is known that it can't work, CommandFailed for a step that failed, Unreachable if the connection broke.
    """
    with remote.connecting():
        wanted = steps(settings, upgrade=upgrade)
    return converge(remote, wanted, talk, plan_only=plan_only, deadline=deadline)


def steps(settings: InstallSettings, *, upgrade: bool = False) -> list[Step]:
    """Return every step of the installation. Raise Refused if a file that the settings name can't be read."""
    trust = authorities(certificates(settings))
    tools = packages("tools", _TOOLS, after=(trust[0].subject,), upgrade=upgrade)
    base = (tools.subject,)
    program = openclaw.software(settings, (NODE_DONE, f"user {settings.user}"), upgrade=upgrade)
    return [
        *_checks(settings),
        *trust,
        tools,
        file("/etc/vim/vimrc.local", render("guest/vimrc.local.j2"), after=base),
        file("/etc/gitconfig", render("guest/gitconfig.j2"), after=base),
        *hardening(settings, base),
        *openclaw.account(settings, base),
        sudoers(settings, base),
        *docker(settings, base, settings.user, upgrade=upgrade),
        *(
            tailscale(settings, base, auth_key(settings), upgrade=upgrade)
            if settings.tailscale_enabled
            else ()
        ),
        *node(settings, base, upgrade=upgrade),
        *program,
        *openclaw.gateway(settings, (program[-1].subject,), _config(settings)),
    ]


def _config(settings: InstallSettings) -> str | None:
    if settings.config is None:
        return None
    try:
        return settings.config.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(
            f"the configuration to start from can't be read: {settings.config}: {getattr(error, 'strerror', 'not UTF-8')}"
        ) from None


def _checks(settings: InstallSettings) -> list[Step]:
    """What must be so before anything is touched."""

    def system(fact: str) -> str | None:
        name, _, rest = fact.partition(" ")
        release = rest.split(" ")[0]
        major = int(release.split(".")[0]) if release[:1].isdigit() else 0
        if name in _SYSTEMS and major >= _SYSTEMS[name]:
            return None
        found = rest.partition(" ")[2] or name or "an unknown system"
        return f"the guest runs {found}; expected Debian 12 or Ubuntu 22.04, or a later release of either"

    def machine(fact: str) -> str | None:
        if settings.nodejs_source == "npm" and fact == "arm64":
            return "nodejs_source npm is for amd64 only; take nodesource on arm64"
        return (
            None
            if fact in _MACHINES
            else f"the guest's architecture is {fact or 'unknown'}; expected amd64 or arm64"
        )

    def space(fact: str) -> str | None:
        installed, free = fact.split()
        return (
            None
            if installed == "yes" or int(free) >= _FREE_MIB
            else f"the guest's disk has {free} MiB free, but the installation needs {_FREE_MIB} MiB"
        )

    return [
        check(
            "system",
            '. /etc/os-release; echo "$ID ${VERSION_ID-} ${PRETTY_NAME-}"',
            "Debian 12, Ubuntu 22.04 or later",
            system,
        ),
        check("architecture", "dpkg --print-architecture; :", "amd64 or arm64", machine),
        check(
            "systemd",
            "if [ -d /run/systemd/system ]; then echo yes; else echo no; fi",
            "yes",
            lambda fact: (
                None if fact == "yes" else "the guest was not started by systemd, which runs the gateway"
            ),
        ),
        check(
            "disk space",
            f"if [ -e {openclaw.RECORD} ]; then echo yes 0; else echo no; df --output=avail -BM /home | tail -n1 | tr -dc '0-9'; fi",
            f"{_FREE_MIB} MiB",
            space,
        ),
    ]
