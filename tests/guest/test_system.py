"""The system: settings, shared folder, trust, accounts, updates, network."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from swarm.guest.verify import Expected
    from tests.guest.conftest import Guest


def test_swappiness_live(guest: Guest, expected: Expected) -> None:
    """vm.swappiness has the value of the host file."""
    if expected.swappiness is None:
        pytest.skip("the host file does not name one")
    assert guest.out("cat /proc/sys/vm/swappiness") == str(expected.swappiness)


def test_swappiness_persisted(guest: Guest, expected: Expected) -> None:
    """vm.swappiness keeps that value after a reboot."""
    if expected.swappiness is None:
        pytest.skip("the host file does not name one")
    # systemd-sysctl reads the files in this order, and the last one to name a key wins.
    last = guest.out(
        "/usr/lib/systemd/systemd-sysctl --cat-config | grep -E '^ *vm[./]swappiness *=' | tail -n1"
    )
    assert last.rpartition("=")[2].strip() == str(expected.swappiness)


def test_timezone(guest: Guest, expected: Expected) -> None:
    """The time zone is that of the host file."""
    if expected.timezone is None:
        pytest.skip("the host file does not name one")
    assert guest.out("readlink -f /etc/localtime") == f"/usr/share/zoneinfo/{expected.timezone}"


def test_share(guest: Guest, expected: Expected) -> None:
    """The shared folder is mounted and writable."""
    if not expected.share:
        pytest.skip("the host file has no share")
    tag, target = expected.share
    assert guest.out(f"findmnt -n -o SOURCE,FSTYPE --mountpoint '{target}'").split() == [tag, "virtiofs"]
    name = f"'{target}'/.swarm-verify"
    assert guest.out(f"echo written >{name} && cat {name} && rm {name}") == "written"


def test_share_after_boot(guest: Guest, expected: Expected) -> None:
    """The share is mounted at boot, and a boot without it goes on."""
    if not expected.share:
        pytest.skip("the host file has no share")
    tag, target = expected.share
    options = guest.out(f"findmnt -n --fstab -o OPTIONS --source '{tag}' --target '{target}'")
    assert "nofail" in options.split(",")


def test_authorities(guest: Guest, expected: Expected) -> None:
    """The guest and its Node trust the authorities of the host file."""
    if not expected.authorities:
        pytest.skip("the host file names no authorities")
    bundle = guest.out("cat /etc/ssl/certs/ca-certificates.crt")
    assert [pem for pem in expected.authorities if pem.strip() not in bundle] == []
    main = guest.as_user("systemctl --user show -p MainPID --value openclaw-gateway.service")
    assert (
        "NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt"
        in guest.out(f"tr '\\0' '\\n' </proc/{main}/environ").splitlines()
    )


def test_keys(guest: Guest, expected: Expected) -> None:
    """The keys of the host file can log in as the OpenClaw user."""
    if not expected.ssh_keys:
        pytest.skip("the host file names no keys")
    path = f"$(getent passwd {guest.user} | cut -d: -f6)/.ssh/authorized_keys"
    present = guest.out(f"cat {path}")
    assert [key for key in expected.ssh_keys if key.split()[1] not in present] == []
    assert guest.out(f"stat -c '%a %U' {path}") == f"600 {guest.user}"


def test_keys_of_root(guest: Guest, expected: Expected) -> None:
    """Of swarm's keys, exactly those of the host file can log in as root."""
    if not expected.ssh_keys:
        pytest.skip("the host file names no keys")
    path, data = "/root/.ssh/authorized_keys", "/var/lib/cloud/instance/user-data.txt"
    own = guest.out(f"sed -n '/^# BEGIN swarm keys$/,/^# END swarm keys$/p' {path}")
    wanted = {key.split()[1] for key in expected.ssh_keys}
    assert {line.split()[1] for line in own.splitlines() if not line.startswith("#")} == wanted
    words = {word for line in guest.out(f"cat {path}").splitlines() for word in line.split()}
    seeded = guest.ask(
        f"grep -ohE '(ssh|ecdsa|sk)-[a-z0-9@.-]+ AAAA[A-Za-z0-9+/=]+' {data} | cut -d ' ' -f 2"
    ).text
    assert words & set(seeded.split()) - wanted == set()


def test_former_accounts(guest: Guest) -> None:
    """Accounts of an earlier openclaw.user have no rights left."""
    rules = guest.out("grep -ls '^# Written by swarm[.] ' /etc/sudoers.d/* || :")
    assert {path.rpartition("/")[2] for path in rules.split()} <= {guest.user}
    seeded = guest.ask("getent passwd openclaw").text.split(":")
    assert guest.user == "openclaw" or seeded[4:5] != ["OpenClaw"] or seeded[6].endswith("/nologin")


def test_forwarding(guest: Guest, expected: Expected) -> None:
    """SSH forwards TCP to the gateway and from loopback, and nothing else."""
    wanted = {
        "x11forwarding no",
        "allowagentforwarding no",
        "allowstreamlocalforwarding no",
        "permittunnel no",
        "gatewayports no",
        f"permitopen 127.0.0.1:{expected.port} localhost:{expected.port}",
        "permitlisten 127.0.0.1:* localhost:*",
    }
    for user in ("root", guest.user):
        asked = f"user={user},host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22"
        settings = guest.out(f"/usr/sbin/sshd -T -C {asked}").splitlines()
        assert sorted(wanted - set(settings)) == []


def test_sudo_is_scoped(guest: Guest) -> None:
    """The OpenClaw user may use sudo on its gateway, and nothing else."""
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
    """The OpenClaw user's sudo rule works on its gateway."""
    command = f"sudo -n /usr/bin/systemctl --no-pager --user --machine={guest.user}@ status openclaw-gateway.service"
    assert "openclaw-gateway.service" in guest.as_user(command)


def test_security_updates(guest: Guest) -> None:
    """Security updates are installed daily, and no others."""
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


def test_tailscale(guest: Guest, expected: Expected) -> None:
    """The guest has joined its Tailscale network."""
    if not expected.tailscale:
        pytest.skip("the host file does not enable Tailscale")
    assert json.loads(guest.out("tailscale status --json"))["BackendState"] == "Running"
