"""Firewall, guards, sudo rules and authorities as tables: given these settings, exactly these steps."""

from __future__ import annotations

import hashlib

import pytest

from swarm.guest.engine.script import BUNDLE
from swarm.guest.install.hardening import hardening, sudoers
from swarm.guest.install.trust import authorities
from swarm.guest.kinds.edits import block, line
from swarm.guest.kinds.files import file
from swarm.guest.kinds.firewall import firewall, firewall_default, firewall_rule
from swarm.guest.kinds.packages import packages
from swarm.guest.kinds.parts import content_put
from swarm.guest.kinds.units import unit
from swarm.templates import render
from tests.unit.steps import place, same, settings

BASE = ("packages: tools",)


@pytest.mark.parametrize(
    ("tailscale_on", "ssh_port", "rules"),
    [
        (False, 22, [(22, "tcp")]),
        (True, 22, [(22, "tcp"), (41641, "udp")]),
        (False, 2222, [(22, "tcp"), (2222, "tcp")]),
    ],
)
def test_hardening(*, tailscale_on: bool, ssh_port: int, rules: list[tuple[int, str]]) -> None:
    """The guest gets a firewall with exactly the ports that it needs, fail2ban, and daily security updates."""
    names = ("ufw", "iptables", "fail2ban", "python3-systemd", "unattended-upgrades")
    guards = packages("firewall and guards", names, after=BASE)
    after = (guards.subject,)
    chain = (
        "-A DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN",
        "-A DOCKER-USER -i docker0 -j RETURN",
        "-A DOCKER-USER -i br-+ -j RETURN",
        "-A DOCKER-USER -j DROP",
    )
    text = render("guest/docker-user.rules.j2", rules=chain)
    parts = [
        *(firewall_rule(port, protocol, after=after) for port, protocol in rules),
        firewall_default("incoming", "deny", after=after),
        firewall_default("routed", "deny", after=after),
        block("/etc/ufw/after.rules", "docker", text, after=after),
        block("/etc/ufw/after6.rules", "docker", text, after=after),
    ]
    wall = firewall(
        (
            "/etc/ufw/after.rules",
            "/etc/ufw/after6.rules",
            "/etc/default/ufw",
            "/etc/ufw/user.rules",
            "/etc/ufw/user6.rules",
        ),
        chains=(
            "-A DOCKER-USER -j DROP",
            *(f"-A ufw-user-input -p {name} -m {name} --dport {port} -j ACCEPT" for port, name in rules),
        ),
        after=after,
        reacts_to=tuple(step.subject for step in parts),
    )
    other = ssh_port if ssh_port != 22 else None
    local = "/etc/fail2ban/jail.d/swarm.local"
    jail = file(local, render("guest/fail2ban.local.j2", tries=5, seconds=3600, other=other), after=after)
    updates = "/etc/apt/apt.conf.d/"
    expected = [
        guards,
        *parts,
        wall,
        jail,
        unit("fail2ban.service", config=(local,), after=after, reacts_to=(jail.subject,)),
        file(f"{updates}20auto-upgrades", render("guest/auto-upgrades.j2"), after=after),
        file(f"{updates}52swarm-unattended-upgrades", render("guest/unattended-upgrades.j2"), after=after),
        unit("apt-daily-upgrade.timer", after=after),
    ]
    same(hardening(settings(tailscale_enabled=tailscale_on), BASE, ssh_port), expected)


def test_sudoers() -> None:
    """The OpenClaw user's sudo rules are checked by visudo before they are put in place."""
    step = sudoers(settings(user="zed"), BASE)
    text = render("guest/sudoers.j2", user="zed", tailscale=False)
    script = step.apply("absent") or ""
    assert place(step) == ("file /etc/sudoers.d/zed", BASE, ())
    assert step.wanted.startswith("440 root:root")
    assert script.index("visudo -cf - >/dev/null") < script.index("put /etc/sudoers.d/zed 440 root root")
    assert f"+{text.splitlines()[2]}" in (step.diff("absent") or "")
    assert "tailscale status" in (sudoers(settings(tailscale_enabled=True), BASE).diff("absent") or "")


PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
SUM = hashlib.sha256(PEM.encode()).hexdigest()
FOLDER = "/usr/local/share/ca-certificates"


@pytest.mark.parametrize(
    ("wanted", "fact", "stale", "written"),
    [
        ({"swarm-1": PEM}, "", [], ["swarm-1"]),
        ({"swarm-1": PEM}, f"swarm-1 {SUM} trusted", [], []),
        ({"swarm-1": PEM}, f"swarm-1 {SUM} untrusted", [], ["swarm-1"]),
        ({"swarm-1": PEM}, f"swarm-1 {'0' * 64} trusted", [], ["swarm-1"]),
        ({"swarm-1": PEM}, f"swarm-0 {SUM} trusted\nswarm-1 {SUM} trusted", ["swarm-0"], []),
        ({}, f"swarm-0 {SUM} trusted", ["swarm-0"], []),
        ({}, "", [], []),
    ],
)
def test_authorities(wanted: dict[str, str], fact: str, stale: list[str], written: list[str]) -> None:
    """A missing, damaged or untrusted certificate is written, and one that is not wanted is removed."""
    script = render(
        "guest/authorities.sh.j2",
        stale=[f"{FOLDER}/{name}.crt" for name in stale],
        writes=[content_put(f"{FOLDER}/{name}.crt", PEM, "644") for name in written],
    )
    first, *more = authorities(wanted)
    assert first.apply(fact) == (script if stale or written else None)
    assert first.refuse(fact) is None
    assert first.shown(fact) == (f"{len(fact.splitlines())} there" if fact else None)
    assert (first.subject, first.wanted, first.after) == (
        "certificate authorities",
        f"{len(wanted)} of the host file",
        (),
    )
    node_line = line("/etc/environment", f"NODE_EXTRA_CA_CERTS={BUNDLE}", "^NODE_EXTRA_CA_CERTS=")
    same(more, [node_line] if wanted else [])


@pytest.mark.parametrize(
    "fact", ["swarm-1", f"swarm-../../x {SUM} trusted", f"mine {SUM} trusted", "swarm-1 x trusted"]
)
def test_strange_list_of_certificates(fact: str) -> None:
    """A strange list of certificates is refused, since its names end up in a command that removes files."""
    reason = authorities({})[0].refuse(f"swarm-0 {SUM} trusted\n{fact}")
    assert reason == f"the guest's list of certificates can't be read: {fact[:80]!r}"
