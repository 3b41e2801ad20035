"""The system: settings, users, updates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from swarm.guest.verify import Expected
    from tests.guest.conftest import Guest


def test_swappiness_live(guest: Guest, expected: Expected) -> None:
    """vm.swappiness is what the host file says."""
    if expected.swappiness is None:
        pytest.skip("the host file does not say")
    assert guest.out("cat /proc/sys/vm/swappiness") == str(expected.swappiness)


def test_swappiness_persisted(guest: Guest, expected: Expected) -> None:
    """vm.swappiness will be the same after a reboot."""
    if expected.swappiness is None:
        pytest.skip("the host file does not say")
    # systemd-sysctl reads the files in this order, and the last one to name a key wins.
    last = guest.out(
        "/usr/lib/systemd/systemd-sysctl --cat-config | grep -E '^ *vm[./]swappiness *=' | tail -n1"
    )
    assert last.rpartition("=")[2].strip() == str(expected.swappiness)


def test_timezone(guest: Guest, expected: Expected) -> None:
    """The time zone is what the host file says."""
    if expected.timezone is None:
        pytest.skip("the host file does not say")
    assert guest.out("readlink -f /etc/localtime") == f"/usr/share/zoneinfo/{expected.timezone}"


def test_authorities(guest: Guest, expected: Expected) -> None:
    """The guest trusts the authorities that the host file names, and so does the gateway's Node, which has a list of its own."""
    if not expected.authorities:
        pytest.skip("the host file names none")
    bundle = guest.out("cat /etc/ssl/certs/ca-certificates.crt")
    assert [pem for pem in expected.authorities if pem.strip() not in bundle] == []
    main = guest.as_user("systemctl --user show -p MainPID --value openclaw-gateway.service")
    assert (
        "NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt"
        in guest.out(f"tr '\\0' '\\n' </proc/{main}/environ").splitlines()
    )


def test_linger(guest: Guest) -> None:
    """The OpenClaw user's own systemd runs without a login, from boot on."""
    assert guest.out(f"loginctl show-user {guest.user} -p Linger --value") == "yes"
    assert guest.out(f"systemctl is-active user@$(id -u {guest.user}).service") == "active"


def test_bus(guest: Guest) -> None:
    """A login of the OpenClaw user reaches its own systemd."""
    assert "yes" in guest.as_user("systemctl --user show-environment >/dev/null && echo yes")


def test_keys(guest: Guest, expected: Expected) -> None:
    """Every public key of the host file may log in as the OpenClaw user, and no key file is open to others."""
    path = f"$(getent passwd {guest.user} | cut -d: -f6)/.ssh/authorized_keys"
    if not expected.ssh_keys:
        pytest.skip("the host file names no keys")
    there = guest.out(f"cat {path}")
    assert [key for key in expected.ssh_keys if key.split()[1] not in there] == []
    assert guest.out(f"stat -c '%a %U' {path}") == f"600 {guest.user}"


def test_sudo_is_scoped(guest: Guest) -> None:
    """The OpenClaw user may use sudo for its own gateway and for nothing else."""
    rules = guest.out(f"sudo -l -U {guest.user}")
    granted = [line.split("NOPASSWD:")[1] for line in rules.splitlines() if "NOPASSWD:" in line]
    commands = [word.strip() for line in granted for word in line.split(",")]
    assert commands
    assert [
        word
        for word in commands
        if "openclaw-gateway.service" not in word and word != "/usr/bin/tailscale status"
    ] == []
    assert "(ALL" not in rules


def test_sudo_works(guest: Guest) -> None:
    """The OpenClaw user's sudo rule reaches its user unit."""
    command = f"sudo -n /usr/bin/systemctl --no-pager --user --machine={guest.user}@ status openclaw-gateway.service"
    assert "openclaw-gateway.service" in guest.as_user(command)


def test_security_updates(guest: Guest) -> None:
    """Security updates are installed every day, and only those."""
    config = guest.out("apt-config dump")
    periodic = [line for line in config.splitlines() if line.startswith("APT::Periodic::")]
    assert 'APT::Periodic::Unattended-Upgrade "1";' in periodic
    assert 'APT::Periodic::Update-Package-Lists "1";' in periodic
    origins = [
        line.split('"')[1]
        for line in config.splitlines()
        if line.startswith(("Unattended-Upgrade::Origins-Pattern::", "Unattended-Upgrade::Allowed-Origins::"))
    ]
    assert origins
    assert [origin for origin in origins if "ecurity" not in origin] == []
    assert guest.out("systemctl is-active apt-daily-upgrade.timer") == "active"
