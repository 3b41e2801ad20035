"""What a guest may reach: the internet, and of its hypervisor and private networks only what the host file allows.

Behind NAT, a guest reaches whatever its hypervisor reaches, and appears there with the hypervisor's address. The filter
acts on the hypervisor, because root in a guest can undo whatever is done inside. It also keeps the guest from using
another address or MAC than its own.
"""

from __future__ import annotations

import ipaddress
import re
import uuid
import xml.etree.ElementTree as ET
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from swarm.hypervisor.filters import Filter, rules, supported
from swarm.inventory import ANY, Target, target
from swarm.templates import render

if TYPE_CHECKING:
    from collections.abc import Iterable

    from swarm.hypervisor.connection import Libvirt
    from swarm.inventory import Host, NetworkFacts
    from swarm.vm.remote import Found

__all__ = [
    "Facts",
    "addresses",
    "allowed",
    "closed",
    "closed_xml",
    "doubt",
    "filter_name",
    "filter_xml",
    "filtered",
    "local",
    "look",
    "ours",
    "public",
    "same",
    "summary",
    "unfiltered",
]

_UUIDS = uuid.UUID("0e1d2b5c-7c0a-5a3e-9c55-52b1f2f64e0a")  # a random namespace
# What is not the internet: this host, private use, carriers' NAT, loopback, link-local (with the metadata services of
# clouds), multicast, reserved and broadcast. RFC 6890, but for documentation and tests.
_CLOSED = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "224.0.0.0/3",
        ),
    )
)
_MISSING = (
    "network filters",
    # Debian 12 has it in libvirt-daemon.
    "install libvirt-daemon-driver-nwfilter on the hypervisor, or write vm.network.allow: [any] into the host file",
)
# The kernel's routing table lists each address of its own like this.
_LOCAL = re.compile(r"\|-- ([0-9.]+)\n\s+/32 host LOCAL")


@dataclass(frozen=True)
class Facts:
    """What is known of a host's filter: its XML, the hypervisor's public addresses, and what is missing for one.

    `doubt` says why not all of the addresses may be known.
    """

    xml: str | None = None
    own: frozenset[ipaddress.IPv4Address] = frozenset()
    supported: bool = True
    missing: tuple[tuple[str, str], ...] = ()
    doubt: str = ""


def filter_name(host: Host) -> str:
    """Return the name of a host's filter."""
    return f"swarm-{host.name}"


def unfiltered(host: Host) -> bool:
    """Return whether the host file asks for no filter."""
    return ANY in host.vm.network.allow


def filtered(host: Host) -> bool:
    """Return whether a filter is in force while the VM runs. libvirt's test driver runs nothing."""
    return not host.foreign and not unfiltered(host) and not host.hypervisor.uri.startswith("test:")


def allowed(host: Host) -> list[Target]:
    """Return what the guest may reach: what the host file allows, and the address of its agentmon endpoint."""
    found = [target(text) for text in host.vm.network.allow if text != ANY]
    if host.agentmon:
        url = urlsplit(host.agentmon.url)
        with suppress(ValueError):  # a name: nobody knows where it leads tomorrow
            address = ipaddress.IPv4Network(url.hostname or "")
            found.append(Target(address, url.port or {"https": 443}.get(url.scheme, 80)))
    return list(dict.fromkeys(found))


def summary(host: Host) -> str:
    """Return the filter in a few words, for a plan."""
    exceptions = ", ".join(map(str, allowed(host)))
    return f"lets the guest reach the internet, and no private address{f' but {exceptions}' if exceptions else ''}"


def filter_xml(host: Host, network: NetworkFacts, own: Iterable[ipaddress.IPv4Address]) -> str:
    """Return the XML of a host's filter in a libvirt network. `own` are public addresses of the hypervisor. Pure."""
    closed = [*_CLOSED, *map(ipaddress.IPv4Network, sorted(own))]
    if not any(network.subnet.subnet_of(each) for each in closed):
        closed.append(network.subnet)
    gateway = str(network.gateway)
    return _xml(host, closed=False, gateway=gateway, allow=allowed(host), closed_networks=closed)


def closed_xml(host: Host) -> str:
    """Return the XML of a filter that lets the guest reach nothing. Pure."""
    return _xml(host, closed=True)


def _xml(host: Host, **values: object) -> str:
    name = filter_name(host)
    own = {"name": name, "uuid": str(uuid.uuid5(_UUIDS, name)), "mac": host.vm.mac, "ip": str(host.vm.ip)}
    return render("filter.xml.j2", **own, **values)


def ours(host: Host, xml: str) -> bool:
    """Return whether swarm made the filter that has the name of the host's. Pure."""
    name = filter_name(host)
    return ET.fromstring(xml).findtext("uuid") == str(uuid.uuid5(_UUIDS, name))


def same(wanted: str, actual: str | None) -> bool:
    """Return whether two definitions have the same rules. Pure."""
    return actual is not None and rules(wanted) == rules(actual)


def look(host: Host, connection: Libvirt, machine: Found | None = None) -> Facts:
    """Return what there is of the host's filter. `machine`: of a remote hypervisor. Raise HypervisorError."""
    if unfiltered(host):
        return Facts(supported=supported(connection))
    if not supported(connection):
        # libvirt's test driver, which runs nothing, has none.
        missing = () if connection.uri.startswith("test:") else (_MISSING,)
        return Facts(supported=False, missing=missing)
    xml = Filter(connection, filter_name(host)).xml()
    if machine is None:
        return Facts(xml, public(local(Path("/proc/net/fib_trie").read_text(encoding="ascii"))))
    before = xml if xml and ours(host, xml) else None
    return Facts(xml, addresses(machine, before), doubt=doubt(machine))


def addresses(machine: Found, xml: str | None) -> frozenset[ipaddress.IPv4Address]:
    """Return the public addresses of a remote hypervisor: its own, and those at which it is reached. Pure.

    Behind NAT, as in clouds, they differ. What could not be found out this time must not change the filter, so what
    the host's present one (`xml`) closes then stays closed.
    """
    own = machine.answer.addresses if machine.answer else frozenset()
    known = machine.reached is not None and (bool(own) or not machine.asked)
    kept = frozenset() if known or xml is None else closed(xml)
    return public(own | (machine.reached or frozenset()) | kept)


def doubt(machine: Found) -> str:
    """Say why not all public addresses of a remote hypervisor may be known; empty if they are. Pure."""
    if machine.answer is None:
        return machine.problem
    return "" if machine.answer.addresses else "it does not list its addresses"


def closed(xml: str) -> frozenset[ipaddress.IPv4Address]:
    """Return the single addresses that a filter closes. Pure."""
    found = [
        ipaddress.IPv4Network(f"{each.get('dstipaddr')}/{each.get('dstipmask', '32')}")
        for each in ET.fromstring(xml).findall("rule[@action='drop']/all[@dstipaddr]")
    ]
    return frozenset(each.network_address for each in found if each.prefixlen == each.max_prefixlen)


def local(table: str) -> set[ipaddress.IPv4Address]:
    """Return the addresses of this machine from /proc/net/fib_trie. Pure."""
    return {ipaddress.IPv4Address(text) for text in _LOCAL.findall(table)}


def public(found: Iterable[ipaddress.IPv4Address]) -> frozenset[ipaddress.IPv4Address]:
    """Return the addresses that are not closed anyway. Pure."""
    return frozenset(each for each in found if not any(each in network for network in _CLOSED))
