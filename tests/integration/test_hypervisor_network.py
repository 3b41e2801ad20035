"""Reservations against libvirt's own test driver: its real rules and error codes."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

import libvirt
import pytest

from swarm.errors import HypervisorError, Refused
from swarm.hypervisor.network import Network, Reservation, subnets
from swarm.vm import desired
from swarm.vm.observe import network_facts

if TYPE_CHECKING:
    from swarm.hypervisor.connection import Libvirt

MAC = "52:54:00:01:00:71"


@pytest.fixture
def network(connection: Libvirt) -> Network:
    """A network with only a live definition, since the test driver returns no persistent one."""
    connection.raw.networkCreateXML(desired.network_xml("lab"))
    return Network(connection, "lab")


def reservations(network: Network) -> dict[str, tuple[str, str]]:
    """Return the network's reservations by MAC."""
    found = re.findall(r"<host mac='(\S+)' name='(\S+)' ip='(\S+)'/>", network.xml())
    return {mac: (ip, name) for mac, name, ip in found}


def test_a_reservation_comes_changes_and_goes(network: Network) -> None:
    """A reservation is added, replaced and removed, and repeating each changes nothing."""
    assert network.release(MAC) is False
    for ip, name in (("192.168.122.5", "zap"), ("192.168.122.6", "zap"), ("192.168.122.6", "claw")):
        assert not network.reserved(MAC, ip, name)
        for _ in range(2):
            network.reserve(MAC, ip, name)
            assert network.reserved(MAC, ip, name)
            assert reservations(network) == {MAC: (ip, name)}
    network.reserve("52:54:00:00:00:09", "192.168.122.9", "bee")
    assert network.release(MAC) is True
    assert reservations(network) == {"52:54:00:00:00:09": ("192.168.122.9", "bee")}


def test_why_it_must_be_the_right_command(network: Network) -> None:
    """Libvirt refuses a second ADD and a MODIFY of an unknown MAC with the same error code."""
    raw = network.raw
    entry = f"<host mac='{MAC}' name='zap' ip='192.168.122.5'/>"
    section, live = libvirt.VIR_NETWORK_SECTION_IP_DHCP_HOST, libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE
    modify, add = libvirt.VIR_NETWORK_UPDATE_COMMAND_MODIFY, libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST
    with pytest.raises(libvirt.libvirtError) as unknown:
        raw.update(modify, section, -1, entry, live)
    raw.update(add, section, -1, entry, live)
    with pytest.raises(libvirt.libvirtError) as second:
        raw.update(add, section, -1, entry, live)
    assert {unknown.value.get_error_code(), second.value.get_error_code()} == {
        libvirt.VIR_ERR_OPERATION_INVALID
    }


@pytest.mark.parametrize(
    "entry",
    [
        ("52:54:00:00:00:09", "192.168.122.5", "bee"),
        ("52:54:00:00:00:09", "192.168.122.6", "zap"),
    ],
    ids=["address", "name"],
)
def test_a_reservation_of_another_machine_is_not_overwritten(
    network: Network, entry: tuple[str, str, str]
) -> None:
    """An address or name of another entry is refused, and both entries stay unchanged."""
    network.reserve(MAC, "192.168.122.5", "zap")
    network.reserve("52:54:00:00:00:09", "192.168.122.9", "bee")
    before = reservations(network)
    with pytest.raises(Refused, match=r"already has a reservation with this address or name: <host mac="):
        network.reserve(*entry)
    assert reservations(network) == before


def test_only_the_exact_reservation_is_deleted(network: Network) -> None:
    """An entry is deleted by all its values, since libvirt matches an entry without MAC to any."""
    section, live = libvirt.VIR_NETWORK_SECTION_IP_DHCP_HOST, libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE
    network.reserve(MAC, "192.168.122.5", "zap")
    entry = Reservation(MAC, "192.168.122.5", "")
    twin = Reservation("", "192.168.122.5", "printer")
    assert twin.matches(entry)
    assert not Reservation("", "192.168.122.6", "printer").matches(entry)
    assert not Reservation("52:54:00:00:00:09", "192.168.122.5", "zap").matches(entry)
    assert not twin.matches(Reservation(MAC, "192.168.122.5", "zap"))
    network.raw.update(
        libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST,
        section,
        -1,
        "<host mac='52:54:00:00:00:09' ip='192.168.122.9'/>",
        live,
    )
    assert network.release(MAC) is True
    assert network.reservations() == [Reservation("52:54:00:00:00:09", "192.168.122.9", "")]


def test_a_network_that_does_not_exist(connection: Libvirt) -> None:
    """A missing network has no leases, and its error has the command that defines it."""
    missing = Network(connection, "gone")
    assert (missing.exists, missing.active, missing.leases()) == (False, False, [])
    with pytest.raises(HypervisorError, match="the hypervisor has no network 'gone'") as caught:
        missing.reserve(MAC, "192.168.122.5", "zap")
    assert caught.value.hint
    assert "virsh net-define" in caught.value.hint


def test_a_network_that_is_created_is_gone_when_it_is_removed(connection: Libvirt) -> None:
    """A created network is listed with its subnet, and removing it leaves nothing; a second removal is no error."""
    before = subnets(connection)
    network = Network(connection, "lab")
    network.create(desired.network_xml("lab"))
    assert IPv4Network("192.168.122.0/24") in subnets(connection)
    assert (Network(connection, "lab").remove(), Network(connection, "lab").exists) == (True, False)
    assert Network(connection, "lab").remove() is False
    assert subnets(connection) == before


@pytest.mark.parametrize(("address", "prefix"), [("10.7.7.1", 8), ("172.31.7.1", 16), ("192.168.77.1", 24)])
def test_a_network_without_a_mask_has_that_of_its_class(
    connection: Libvirt, address: str, prefix: int
) -> None:
    """Libvirt takes a network whose address has no mask. Its subnet is that of the address's class."""
    dhcp = f"<dhcp><range start='{address[:-1]}20' end='{address[:-1]}90'/></dhcp>"
    Network(connection, "bare").create(
        f"<network><name>bare</name><bridge name='virbr7'/><ip address='{address}'>{dhcp}</ip></network>"
    )
    network, expected = Network(connection, "bare"), IPv4Network(f"{address}/{prefix}", strict=False)
    assert network_facts("bare", network.xml(), []).subnet == expected
    assert subnets(connection)[expected] == "bare"
    network.remove()


def test_every_range_and_every_address_of_a_network_is_read(connection: Libvirt) -> None:
    """All ranges that DHCP hands out are known, and so are all addresses that the hypervisor has in the network."""
    spans = [("192.168.77.20", "192.168.77.90"), ("192.168.77.100", "192.168.77.150")]
    ranges = "".join(f"<range start='{first}' end='{last}'/>" for first, last in spans)
    network = Network(connection, "wide")
    network.create(
        "<network><name>wide</name><bridge name='virbr8'/><ip address='192.168.77.5' prefix='24'/>"
        f"<ip address='192.168.77.1' prefix='24'><dhcp>{ranges}</dhcp></ip>"
        "<ip family='ipv6' address='fd00::1' prefix='64'/></network>"
    )
    facts = network_facts("wide", network.xml(), [])
    assert [(str(first), str(last)) for first, last in facts.dynamic_ranges] == spans
    assert (str(facts.gateway), set(facts.own)) == ("192.168.77.1", {IPv4Address("192.168.77.5")})
    network.remove()
