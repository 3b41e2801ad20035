"""Steps that close doors: firewall, fail2ban, security updates, and what the OpenClaw user may do as root."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.guest.kinds.basic import block, file
from swarm.guest.kinds.packages import packages
from swarm.guest.kinds.services import firewall, firewall_default, firewall_rule, unit
from swarm.templates import render
from swarm.text import quote

if TYPE_CHECKING:
    from swarm.guest.engine.probe import Step
    from swarm.inventory.inside import InstallSettings

__all__ = ["DOCKER_RULES", "hardening", "sudoers"]

# Packets to a published port come in by any card but Docker's own bridges.
DOCKER_RULES = (
    "-A DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN",
    "-A DOCKER-USER -i docker0 -j RETURN",
    "-A DOCKER-USER -i br-+ -j RETURN",
    "-A DOCKER-USER -j DROP",
)
_AFTER = ("/etc/ufw/after.rules", "/etc/ufw/after6.rules")
_TAILSCALE_PORT = 41641  # where Tailscale listens for direct connections
_JAIL = "/etc/fail2ban/jail.d/swarm.local"


def hardening(settings: InstallSettings, after: tuple[str, ...]) -> list[Step]:
    """Return the steps for the firewall, fail2ban and unattended security updates."""
    software = packages(
        "firewall and guards",
        ("ufw", "iptables", "fail2ban", "python3-systemd", "unattended-upgrades"),
        after=after,
    )
    there = (software.subject,)
    ports = [(22, "tcp"), *([(_TAILSCALE_PORT, "udp")] if settings.tailscale_enabled else [])]
    rules = [firewall_rule(port, protocol, after=there) for port, protocol in ports]
    defaults = [
        firewall_default("incoming", "deny", after=there),
        firewall_default("routed", "deny", after=there),
    ]
    text = render("guest/docker-user.rules.j2", rules=DOCKER_RULES)
    blocks = [block(path, "docker", text, after=there) for path in _AFTER]
    config = (*_AFTER, "/etc/default/ufw", "/etc/ufw/user.rules", "/etc/ufw/user6.rules")
    parts = tuple(step.subject for step in (*rules, *defaults, *blocks))
    wall = firewall(
        config,
        chains=(
            *DOCKER_RULES[-1:],
            *(
                f"-A ufw-user-input -p {protocol} -m {protocol} --dport {port} -j ACCEPT"
                for port, protocol in ports
            ),
        ),
        after=there,
        reacts_to=parts,
    )
    jail = file(_JAIL, render("guest/fail2ban.local.j2", tries=5, seconds=3600), after=there)
    guard = unit("fail2ban.service", config=(_JAIL,), after=there, reacts_to=(jail.subject,))
    return [
        software,
        *rules,
        *defaults,
        *blocks,
        wall,
        jail,
        guard,
        file("/etc/apt/apt.conf.d/20auto-upgrades", render("guest/auto-upgrades.j2"), after=there),
        file(
            "/etc/apt/apt.conf.d/52swarm-unattended-upgrades",
            render("guest/unattended-upgrades.j2"),
            after=there,
        ),
        unit("apt-daily-upgrade.timer", after=there),
    ]


def sudoers(settings: InstallSettings, after: tuple[str, ...]) -> Step:
    """Return the step for the OpenClaw user's sudo rules; a file that sudo itself finds wrong is not put in place."""
    text = render("guest/sudoers.j2", user=settings.user, tailscale=settings.tailscale_enabled)
    return file(
        f"/etc/sudoers.d/{settings.user}",
        text,
        mode="440",
        after=after,
        check=f"printf '%s' {quote(text)} | visudo -cf - >/dev/null",
    )
