"""What can be reached from outside: firewall, fail2ban, listening ports. The kernel's rules count, not the files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarm.guest.verify import Expected
    from tests.guest.conftest import Guest

DHCP = {"68", "546"}  # where a DHCP client listens for its server's answers; the firewall guards both


def test_incoming_is_denied(guest: Guest) -> None:
    """The kernel drops incoming packets that no rule allows (IPv4, IPv6)."""
    assert "-P INPUT DROP" in guest.out("iptables -S INPUT").splitlines()
    assert "-P INPUT DROP" in guest.out("ip6tables -S INPUT").splitlines()


def test_routed_is_denied(guest: Guest) -> None:
    """The kernel does not forward packets that no rule allows."""
    assert "-P FORWARD DROP" in guest.out("iptables -S FORWARD").splitlines()


def test_allowed_ports(guest: Guest, expected: Expected) -> None:
    """The kernel lets in SSH, Tailscale if enabled, and nothing else."""
    ports = {22, expected.ssh_port}
    wanted = {f"-A ufw-user-input -p tcp -m tcp --dport {port} -j ACCEPT" for port in ports}
    if expected.tailscale:
        wanted.add("-A ufw-user-input -p udp -m udp --dport 41641 -j ACCEPT")
    rules = guest.out("iptables -S ufw-user-input").splitlines()
    opening = {rule for rule in rules if rule.startswith("-A") and not _slows(rule)}
    assert {rule.replace(" ufw-user-limit-accept", " ACCEPT") for rule in opening} == wanted
    assert any("ufw-before-input" in rule for rule in guest.out("iptables -S INPUT").splitlines())


def _slows(rule: str) -> bool:
    """Whether a rule is one of those that `ufw limit` puts before the one that lets in: they count, and refuse."""
    return " -j " not in rule or rule.endswith(" -j ufw-user-limit")


def test_firewall_after_boot(guest: Guest) -> None:
    """The firewall starts at boot."""
    assert guest.out("grep -x 'ENABLED=yes' /etc/ufw/ufw.conf")
    assert guest.out("systemctl is-enabled ufw.service") == "enabled"


def test_published_ports_are_closed(guest: Guest) -> None:
    """Ports that containers publish are closed from outside."""
    # Docker's chain comes first, and ends with a drop.
    forward = [rule for rule in guest.out("iptables -S FORWARD").splitlines() if rule.startswith("-A")]
    chain = [rule for rule in guest.out("iptables -S DOCKER-USER").splitlines() if rule.startswith("-A")]
    assert forward[0] == "-A FORWARD -j DOCKER-USER"
    # Rules that Docker adds after the drop are never reached.
    before = chain[: chain.index("-A DOCKER-USER -j DROP")]
    assert [
        rule
        for rule in before
        if "-i docker0" not in rule and "-i br-+" not in rule and "RELATED,ESTABLISHED" not in rule
    ] == []


def test_fail2ban(guest: Guest) -> None:
    """Five failed SSH logins ban an address for an hour."""
    assert guest.out("fail2ban-client get sshd maxretry") == "5"
    assert guest.out("fail2ban-client get sshd bantime") == "3600"


def test_fail2ban_bans(guest: Guest) -> None:
    """A ban reaches the kernel, and can be lifted."""
    address = "192.0.2.99"  # reserved for documentation: TEST-NET-1
    listed = f"iptables -S | grep -q {address} || nft list ruleset | grep -q {address}"
    try:
        guest.out(f"fail2ban-client set sshd banip {address}")
        # fail2ban does it in a thread of its own, within a second.
        guest.out(f"for i in 1 2 3 4 5 6 7 8 9 10; do if {listed}; then exit 0; fi; sleep 0.5; done; exit 1")
    finally:
        guest.out(f"fail2ban-client set sshd unbanip {address}")


def test_listening_ports(guest: Guest, expected: Expected) -> None:
    """Only SSH listens on addresses other than loopback."""
    allowed = {
        *(("tcp", str(port)) for port in (22, expected.ssh_port)),
        *(("udp", port) for port in DHCP),
        *([("udp", "41641")] if expected.tailscale else []),
    }
    found = set()
    for line in guest.out("ss -Hltnu").splitlines():
        fields = line.split()
        address, _, port = fields[4].rpartition(":")
        if not address.strip("[]").split("%")[0].startswith("127.") and address not in {
            "[::1]",
            "[::ffff:127.0.0.1]",
        }:
            found.add((fields[0], port))
    assert found - allowed == set()
