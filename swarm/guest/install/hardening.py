"""The steps for hardening: firewall, fail2ban, security updates, and the sudo rules of the OpenClaw user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.guest.kinds.edits import block
from swarm.guest.kinds.files import file
from swarm.guest.kinds.firewall import firewall, firewall_default, firewall_rule
from swarm.guest.kinds.packages import packages
from swarm.guest.kinds.units import unit
from swarm.ssh.config import PORT
from swarm.templates import render
from swarm.text import quote

if TYPE_CHECKING:
    from swarm.guest.engine.step import Step
    from swarm.inventory.inside import InstallSettings

__all__ = ["SUDOERS", "hardening", "sudoers"]

SUDOERS = "/etc/sudoers.d"

# Packets to a published port arrive on any interface except Docker's own bridges.
_DOCKER_RULES = (
    "-A DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN",
    "-A DOCKER-USER -i docker0 -j RETURN",
    "-A DOCKER-USER -i br-+ -j RETURN",
    "-A DOCKER-USER -j DROP",
)
_RULE_FILES = ("/etc/ufw/after.rules", "/etc/ufw/after6.rules")
_APT = "/etc/apt/apt.conf.d"
_TAILSCALE_PORT = 41641  # where Tailscale listens for direct connections
_JAIL = "/etc/fail2ban/jail.d/swarm.local"


def hardening(settings: InstallSettings, after: tuple[str, ...], ssh_port: int = PORT) -> list[Step]:
    """Return the steps for the firewall, fail2ban and unattended security updates. SSH stays open on `ssh_port` too."""
    software = packages(
        "firewall and guards",
        ("ufw", "iptables", "fail2ban", "python3-systemd", "unattended-upgrades"),
        after=after,
    )
    installed = (software.subject,)
    updates = render("guest/unattended-upgrades.j2")
    return [
        software,
        *_firewall(settings, installed, ssh_port),
        *_fail2ban(installed, ssh_port),
        file(f"{_APT}/20auto-upgrades", render("guest/auto-upgrades.j2"), after=installed),
        file(f"{_APT}/52swarm-unattended-upgrades", updates, after=installed),
        unit("apt-daily-upgrade.timer", after=installed),
    ]


def _firewall(settings: InstallSettings, after: tuple[str, ...], ssh_port: int) -> list[Step]:
    """Steps for UFW: only SSH and, if it is enabled, Tailscale get in. Ports that containers publish are closed too."""
    # The port that the host file names may be one that a router leads to the guest's port 22.
    ports = [(port, "tcp") for port in dict.fromkeys((PORT, ssh_port))]
    ports += [(_TAILSCALE_PORT, "udp")] if settings.tailscale_enabled else []
    text = render("guest/docker-user.rules.j2", rules=_DOCKER_RULES)
    parts = [
        *(firewall_rule(port, protocol, after=after) for port, protocol in ports),
        firewall_default("incoming", "deny", after=after),
        firewall_default("routed", "deny", after=after),
        *(block(path, "docker", text, after=after) for path in _RULE_FILES),
    ]
    accepted = (
        f"-A ufw-user-input -p {protocol} -m {protocol} --dport {port} -j ACCEPT" for port, protocol in ports
    )
    wall = firewall(
        (*_RULE_FILES, "/etc/default/ufw", "/etc/ufw/user.rules", "/etc/ufw/user6.rules"),
        chains=(_DOCKER_RULES[-1], *accepted),
        after=after,
        reacts_to=tuple(step.subject for step in parts),
    )
    return [*parts, wall]


def _fail2ban(after: tuple[str, ...], ssh_port: int) -> list[Step]:
    other = ssh_port if ssh_port != PORT else None
    jail = file(_JAIL, render("guest/fail2ban.local.j2", tries=5, seconds=3600, other=other), after=after)
    return [jail, unit("fail2ban.service", config=(_JAIL,), after=after, reacts_to=(jail.subject,))]


def sudoers(settings: InstallSettings, after: tuple[str, ...]) -> Step:
    """Return the step for the OpenClaw user's sudo rules. A file that visudo rejects is never put in place."""
    text = render("guest/sudoers.j2", user=settings.user, tailscale=settings.tailscale_enabled)
    return file(
        f"{SUDOERS}/{settings.user}",
        text,
        mode="440",
        after=after,
        check=f"printf '%s' {quote(text)} | visudo -cf - >/dev/null",
    )
