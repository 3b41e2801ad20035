"""A host is checked against the observed network and the existing disk."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import InventoryError
from swarm.inventory import GIB, Host, NetworkFacts, check_disk, check_network, load, size
from swarm.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

MAC = "52:54:00:01:00:71"
OTHER = "52:54:00:aa:bb:cc"
RANGE = (IPv4Address("192.168.122.2"), IPv4Address("192.168.122.254"))


@pytest.fixture(scope="module")
def zap() -> Iterator[Host]:
    """The reference VM, 192.168.122.182 in 60 GiB."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWARM_HOSTS", str(ROOT / "hosts"))
        yield load("zap")


def moved(host: Host, ip: str | int) -> Host:
    """Return the host with another address."""
    return host.model_copy(update={"own_vm": host.vm.model_copy(update={"ip": IPv4Address(ip)})})


def facts(
    subnet: str = "192.168.122.0/24",
    gateway: str = "192.168.122.1",
    *,
    reserved: str = "",
    by: str = "",
    leased: str = "",
    to: str = "",
    own: str = "",
) -> NetworkFacts:
    """Return the state of libvirt's default network, with an optional reservation, lease and second address."""
    return NetworkFacts(
        name="default",
        subnet=IPv4Network(subnet),
        gateway=IPv4Address(gateway),
        dynamic_ranges=(RANGE,),
        reservations={by: IPv4Address(reserved)} if reserved else {},
        leases={IPv4Address(leased): to} if leased else {},
        own=frozenset([IPv4Address(own)] if own else []),
    )


@pytest.mark.parametrize(
    "network",
    [
        facts(),
        facts(reserved="192.168.122.182", by=MAC),
        facts(reserved="192.168.122.182", by=MAC.upper()),
        facts(leased="192.168.122.182", to=MAC),
        facts(leased="192.168.122.183", to=OTHER),
        facts(reserved="192.168.122.7", by=MAC),
        facts("192.168.122.182/31", "192.168.122.183"),
        facts("192.168.0.0/16", "192.168.0.1"),
    ],
    ids=[
        "free, in the dynamic range",
        "reserved for it",
        "in capitals",
        "leased to it",
        "another's lease",
        "moves",
        "point to point",
        "larger network",
    ],
)
def test_a_free_address_is_accepted(zap: Host, network: NetworkFacts) -> None:
    """An address in the network that no other MAC holds is accepted, also in the dynamic range."""
    check_network(zap, network)


@pytest.mark.parametrize(
    ("network", "problem", "hint"),
    [
        (
            facts("10.0.0.0/24", "10.0.0.1"),
            "is outside the network default, 10.0.0.0/24",
            "use the free address 10.0.0.2",
        ),
        (
            facts("192.168.122.0/25", "192.168.122.1"),
            "is outside the network default, 192.168.122.0/25",
            "use the free address 192.168.122.2",
        ),
        (
            facts(gateway="192.168.122.182"),
            "is the gateway of the network default",
            "use the free address 192.168.122.1",
        ),
        (
            facts(own="192.168.122.182"),
            "is an address of the hypervisor in the network default",
            "use the free address 192.168.122.2",
        ),
        (
            facts("192.168.122.182/31", "192.168.122.182"),
            "is the gateway of the network default",
            "use the free address 192.168.122.183",
        ),
        (
            facts("192.168.122.176/29", "192.168.122.177", reserved="192.168.122.182", by=OTHER),
            f"is reserved for {OTHER} in the network default",
            "use the free address 192.168.122.178",
        ),
        (
            facts(reserved="192.168.122.182", by=OTHER.upper()),
            f"is reserved for {OTHER} in the network default",
            "use the free address 192.168.122.2",
        ),
        (
            facts(leased="192.168.122.182", to=OTHER),
            f"is leased to {OTHER} in the network default",
            "use the free address 192.168.122.2",
        ),
        (
            facts(reserved="192.168.122.182", by=MAC, leased="192.168.122.182", to=OTHER),
            f"is leased to {OTHER} in the network default",
            "use the free address 192.168.122.2",
        ),
        (
            facts("192.168.122.182/31", "192.168.122.183", leased="192.168.122.182", to=OTHER),
            f"is leased to {OTHER} in the network default",
            "the network has no free address",
        ),
        (
            facts("192.168.122.180/30", "192.168.122.181", leased="192.168.122.182", to=OTHER),
            f"is leased to {OTHER} in the network default",
            "the network has no free address",
        ),
    ],
)
def test_an_unavailable_address_is_refused_with_its_line(
    zap: Host, network: NetworkFacts, problem: str, hint: str
) -> None:
    """An invalid or taken address is refused with its line, and a free address is suggested."""
    with pytest.raises(InventoryError) as caught:
        check_network(zap, network)
    assert caught.value.message == f"hosts/zap.yaml:15: vm.ip: 192.168.122.182 {problem}"
    assert caught.value.hint == hint


def test_the_network_and_broadcast_addresses_are_refused(zap: Host) -> None:
    """The network and broadcast addresses are refused. A /31 or /32 network has neither."""
    for ip, problem in (
        ("192.168.122.0", "is the address of the network default itself"),
        ("192.168.122.255", "is the broadcast address of the network default"),
    ):
        with pytest.raises(InventoryError) as caught:
            check_network(moved(zap, ip), facts())
        assert caught.value.message == f"hosts/zap.yaml:15: vm.ip: {ip} {problem}"
    for prefix in (31, 32):
        check_network(zap, facts(f"192.168.122.182/{prefix}", "192.168.122.1"))


@given(
    ip=st.integers(0, 63),
    gateway=st.integers(8, 15),
    prefix=st.integers(28, 30),
    reserved=st.dictionaries(st.sampled_from([MAC, OTHER, "52:54:00:00:00:01"]), st.integers(0, 63)),
    leased=st.dictionaries(st.integers(0, 63), st.sampled_from([MAC, OTHER])),
)
def test_exactly_the_free_host_addresses_are_accepted(
    zap: Host, ip: int, gateway: int, prefix: int, reserved: dict[str, int], leased: dict[int, str]
) -> None:
    """check_network accepts and suggests exactly the free host addresses, without the gateway."""
    base = int(IPv4Address("10.0.0.0"))
    subnet = IPv4Network((base + 8, prefix), strict=False)
    reservations = {mac: IPv4Address(base + one) for mac, one in reserved.items()}
    leases = {IPv4Address(base + one): mac for one, mac in leased.items()}
    network = NetworkFacts("n", subnet, IPv4Address(base + gateway), (), reservations, leases)

    def fine(address: IPv4Address) -> bool:
        holders = {mac for mac, one in reservations.items() if one == address} | {
            mac for one, mac in leases.items() if one == address
        }
        return address in set(subnet.hosts()) - {network.gateway} and holders <= {MAC}

    host = moved(zap, base + ip)
    if fine(host.vm.ip):
        check_network(host, network)
        return
    with pytest.raises(InventoryError) as caught:
        check_network(host, network)
    if caught.value.hint != "the network has no free address":
        assert fine(IPv4Address(str(caught.value.hint).removeprefix("use the free address ")))


@pytest.mark.parametrize("now", [None, 0, 1, 10 * GIB, 60 * GIB])
def test_a_disk_may_keep_its_size_or_grow(zap: Host, now: int | None) -> None:
    """A disk that does not exist yet, is smaller or has the same size is accepted."""
    check_disk(zap, now)


@pytest.mark.parametrize(
    ("now", "shown"), [(60 * GIB + 1, "61G"), (80 * GIB, "80G"), (1024 * GIB, "1T"), (1025 * GIB, "1025G")]
)
def test_a_disk_never_shrinks(zap: Host, now: int, shown: str) -> None:
    """A disk that is larger than disk_size is refused with its line, and the hint has its current size."""
    with pytest.raises(InventoryError) as caught:
        check_disk(zap, now)
    assert (
        caught.value.message == f"hosts/zap.yaml:13: vm.disk_size: the disk cannot shrink from {shown} to 60G"
    )
    assert caught.value.hint == f"write {shown}, or destroy the VM and provision it again"


@given(st.integers(1, 2048 * 1024 * GIB))
def test_a_formatted_size_is_rounded_up(number: int) -> None:
    """size() rounds up to whole GiB."""
    text = size(number)
    unit = {"G": GIB, "T": 1024 * GIB}[text[-1]]
    assert 0 <= int(text[:-1]) * unit - number < GIB
