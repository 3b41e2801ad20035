"""What a guest may reach: the rules of the filter that its hypervisor applies to it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, NamedTuple

import pytest

from swarm.inventory import AgentmonSettings
from swarm.vm import egress
from tests import samples
from tests.unit.facts import NETWORK

if TYPE_CHECKING:
    from swarm.inventory import Host
    from tests.conftest import Dirs


@pytest.fixture
def zap(dirs: Dirs) -> Host:
    """The reference host, read from a hosts folder of the test's own."""
    assert dirs.hosts.is_dir()
    return samples.host()


class Packet(NamedTuple):
    """The start of a connection."""

    to: str
    protocol: str = "tcp"
    port: int = 443


def passes(xml: str, packet: Packet) -> bool:
    """Return what the filter's rules about IP do to a connection that the guest starts, as libvirt applies them."""
    found = [
        (int(rule.get("priority", "500")), rule.get("action"), each)
        for rule in ET.fromstring(xml).findall("rule")
        for each in rule
        if rule.get("direction") == "out" and each.tag in {"all", "tcp", "udp"}
    ]
    for _, action, each in sorted(found, key=lambda entry: entry[0]):
        to = each.get("dstipaddr")
        network = f"{to}/{each.get('dstipmask', '32')}" if to else "255.255.255.255/0"
        ports = each.get("dstportstart")
        if (
            each.tag in {"all", packet.protocol}
            and IPv4Address(packet.to) in IPv4Network(network, strict=False)
            and (ports is None or int(ports) == packet.port)
        ):
            return action == "accept"
    raise AssertionError("no rule applies")


@pytest.mark.parametrize(
    ("allow", "packet", "expected"),
    [
        ([], Packet("203.0.113.80"), True),
        ([], Packet("192.168.122.1", "udp", 53), True),
        ([], Packet("192.168.122.1", "tcp", 53), True),
        ([], Packet("255.255.255.255", "udp", 67), True),
        ([], Packet("192.168.122.1", "tcp", 22), False),
        ([], Packet("192.168.122.31", "tcp", 22), False),
        ([], Packet("192.168.122.255", "udp", 137), False),
        ([], Packet("169.254.169.254", "tcp", 80), False),
        ([], Packet("10.1.2.3"), False),
        ([], Packet("172.31.255.255"), False),
        ([], Packet("172.32.0.1"), True),
        ([], Packet("100.64.0.1"), False),
        ([], Packet("127.0.0.1"), False),
        ([], Packet("0.1.2.3"), False),
        ([], Packet("239.255.255.250", "udp", 1900), False),
        ([], Packet("198.51.100.4", "tcp", 22), False),
        (["192.168.122.1:18804"], Packet("192.168.122.1", "tcp", 18804), True),
        (["192.168.122.1:18804"], Packet("192.168.122.1", "tcp", 18805), False),
        (["192.168.122.1:18804"], Packet("192.168.122.2", "tcp", 18804), False),
        (["192.168.153.0/24"], Packet("192.168.153.253", "udp", 9), True),
        (["192.168.153.0/24"], Packet("192.168.154.1"), False),
        (["10.0.0.1", "192.168.153.0/24"], Packet("10.0.0.1"), True),
    ],
)
def test_what_a_guest_reaches(zap: Host, allow: list[str], packet: Packet, *, expected: bool) -> None:
    """A guest reaches the internet, DHCP and DNS, and what is allowed: nothing else of its hypervisor or a LAN."""
    xml = egress.filter_xml(
        samples.variant(zap, network={"allow": allow}), NETWORK, [IPv4Address("198.51.100.4")]
    )
    assert passes(xml, packet) is expected


def test_a_network_of_public_addresses_is_closed(zap: Host) -> None:
    """Guests of one network do not reach each other, even if its addresses are not private."""
    public = replace(NETWORK, subnet=IPv4Network("203.0.113.0/24"), gateway=IPv4Address("203.0.113.1"))
    xml = egress.filter_xml(zap, public, [])
    assert not passes(xml, Packet("203.0.113.9"))
    assert passes(xml, Packet("203.0.113.1", "udp", 53))
    assert passes(egress.filter_xml(zap, NETWORK, []), Packet("203.0.113.9"))


def test_a_drill_reaches_nothing(zap: Host) -> None:
    """The filter of an isolated VM lets no connection out, whatever the host file allows."""
    xml = egress.closed_xml(samples.variant(zap, network={"allow": ["10.0.0.1"]}))
    for packet in (Packet("203.0.113.80"), Packet("10.0.0.1"), Packet("192.168.122.1", "udp", 53)):
        assert not passes(xml, packet)
    assert passes(xml, Packet("255.255.255.255", "udp", 67))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://192.168.153.253:8080/v1/events", ["192.168.153.253:8080"]),
        ("https://192.168.153.253", ["192.168.153.253:443"]),
        ("http://192.168.153.253", ["192.168.153.253:80"]),
        ("http://agentmon.lan:8080", []),
    ],
)
def test_the_agentmon_endpoint_is_allowed(zap: Host, url: str, expected: list[str]) -> None:
    """The address that the host file gives for agentmon needs no entry of its own; a name does."""
    host = zap.model_copy(update={"agentmon": AgentmonSettings(url=url)})
    assert list(map(str, egress.allowed(host))) == expected


def test_rules_are_compared_without_their_layout(zap: Host) -> None:
    """What libvirt makes of a definition has the same rules; one more rule, or another order, is a difference."""
    wanted = egress.filter_xml(zap, NETWORK, [])
    kept = ET.fromstring(wanted)
    for rule in kept.findall("rule"):
        rule.attrib = dict(reversed(rule.attrib.items()))
        rule.text = "\n   "
    assert egress.same(wanted, ET.tostring(kept, encoding="unicode"))
    kept.remove(kept.findall("rule")[-1])
    assert not egress.same(wanted, ET.tostring(kept, encoding="unicode"))
    assert not egress.same(wanted, None)


def test_the_link_carries_only_the_guests_own_addresses(zap: Host) -> None:
    """What has another MAC or address than the host file's is dropped, and so is all that is neither IPv4 nor ARP."""
    dropped = [
        (each.tag, dict(each.attrib))
        for rule in ET.fromstring(egress.filter_xml(zap, NETWORK, [])).findall("rule[@action='drop']")
        for each in rule
        if each.tag in {"mac", "ip", "arp"}
    ]
    assert dropped == [
        ("mac", {"match": "no", "srcmacaddr": "52:54:00:01:00:71"}),
        ("ip", {"match": "no", "srcipaddr": "192.168.122.182"}),
        ("arp", {"match": "no", "arpsrcmacaddr": "52:54:00:01:00:71"}),
        ("arp", {"match": "no", "arpsrcipaddr": "192.168.122.182"}),
        ("mac", {}),
    ]


TABLE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 198.51.100.0/24 2 0 2
        |-- 198.51.100.0
           /24 link UNICAST
        |-- 198.51.100.4
           /32 host LOCAL
        |-- 198.51.100.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
        |-- 192.168.122.1
           /32 host LOCAL
"""


def test_the_addresses_of_this_machine() -> None:
    """Of this machine's own addresses, the filter has to name only the public ones."""
    found = egress.local(TABLE)
    assert sorted(map(str, found)) == ["127.0.0.1", "192.168.122.1", "198.51.100.4"]
    assert egress.public(found) == {IPv4Address("198.51.100.4")}
