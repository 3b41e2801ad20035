"""Cut a running VM off from every network but its hypervisor: move it to a libvirt network without a way out.

This is done outside the guest, because root in a guest can undo whatever is done inside.
"""

from __future__ import annotations

import hashlib
import time
import xml.etree.ElementTree as ET
from ipaddress import IPv4Address, IPv4Network
from itertools import islice
from typing import TYPE_CHECKING, TypeVar
from xml.sax.saxutils import quoteattr

from swarm.deadline import Deadline
from swarm.errors import HypervisorError, Unreachable, VerificationFailed
from swarm.hypervisor.domain import Domain
from swarm.hypervisor.filters import Filter, supported
from swarm.hypervisor.network import Network, subnets
from swarm.inventory import Egress, Host
from swarm.templates import render
from swarm.vm import desired, egress
from swarm.vm.ready import SHUTDOWN, wait

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from swarm.console import Talk
    from swarm.hypervisor.connection import Libvirt

__all__ = ["candidates", "check", "gateway_of", "isolate", "isolated_xml", "network_name"]

# Reserved for measuring network devices (RFC 2544), so no real network should use it.
_RANGE = IPv4Network("198.18.0.0/15")
_PREFIX = 29
_ATTEMPTS = 8  # subnets to try: libvirt refuses one that the hypervisor has a route to
_DOWN = 5.0  # seconds without a link: a guest may not notice a shorter pause
_MOVED = 60.0  # seconds for a guest to notice the new network; if it does not, it is restarted

AnyHost = TypeVar("AnyHost", bound=Host)


def network_name(host: Host) -> str:
    """Return the name of the isolated network of a host."""
    return f"swarm-isolated-{host.name}"


def candidates(name: str, used: Iterable[IPv4Network]) -> Iterator[IPv4Network]:
    """Yield subnets that overlap none of `used`, beginning at one that follows from the name. Pure."""
    taken = list(used)
    count = 1 << (_PREFIX - _RANGE.prefixlen)
    size = 1 << (32 - _PREFIX)
    first = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    for number in range(count):
        base = int(_RANGE.network_address) + (first + number) % count * size
        subnet = IPv4Network((base, _PREFIX))
        if not any(subnet.overlaps(other) for other in taken):
            yield subnet


def gateway_of(ip: IPv4Address) -> IPv4Address:
    """Return the hypervisor's address in the isolated network of a guest."""
    return IPv4Network((ip, _PREFIX), strict=False)[1]


def isolated_xml(host: Host, subnet: IPv4Network) -> str:
    """Return the XML of the isolated network. The guest has the address after the hypervisor's."""
    values = {"name": network_name(host), "mac": host.vm.mac, "prefix": _PREFIX}
    return render("isolated.xml.j2", gateway=str(subnet[1]), ip=str(subnet[2]), **values)


def isolate(host: AnyHost, connection: Libvirt, talk: Talk, deadline: Deadline) -> AnyHost:
    """Move the running VM to a network of its own, and wait for the guest there. Return the host as it is now reached.

    Raise HypervisorError, VerificationFailed if the VM still has another network, or Unreachable.
    """
    domain = Domain.find_by_uuid(connection, desired.domain_uuid(host))
    if domain is None:
        raise HypervisorError(f"the domain {host.vm.domain!r} is gone", "run the command again")
    network = Network(connection, network_name(host))
    network.remove()
    subnet = _created(host, network, connection)
    moved = host.model_copy(
        update={
            "own_vm": host.vm.model_copy(update={"ip": subnet[2], "network": Egress()}),
            "hypervisor": host.hypervisor.model_copy(update={"network": network.name}),
        }
    )
    # The isolated network has no way out. The filter keeps the guest from services of the hypervisor itself, too.
    rules = egress.filter_name(moved) if supported(connection) else ""
    if rules:
        Filter(connection, rules).define(egress.closed_xml(moved))
    domain.update(_interface(host, network.name, rules), live=False)
    domain.update(_interface(host, network.name, rules, "down"), live=True)
    time.sleep(_DOWN)
    domain.update(
        _interface(host, network.name, rules, "up"), live=True
    )  # the guest asks for an address again
    check(domain, network)
    _await(moved, connection, domain, talk, deadline)
    check(domain, network)
    return moved


def _created(host: Host, network: Network, connection: Libvirt) -> IPv4Network:
    trouble = HypervisorError(f"{host.name}: there is no free subnet for an isolated network")
    for subnet in islice(candidates(host.name, subnets(connection)), _ATTEMPTS):
        try:
            network.create(isolated_xml(host, subnet))
        except HypervisorError as error:
            trouble = error
        else:
            return subnet
    raise trouble


def _interface(host: Host, network: str, rules: str, link: str = "") -> str:
    state = f"<link state={quoteattr(link)}/>" if link else ""
    source = f"<mac address={quoteattr(host.vm.mac)}/><source network={quoteattr(network)}/>"
    filtering = f"<filterref filter={quoteattr(rules)}/>" if rules else ""
    return f"<interface type='network'>{source}<model type='virtio'/>{filtering}{state}</interface>"


def _await(host: Host, connection: Libvirt, domain: Domain, talk: Talk, deadline: Deadline) -> None:
    try:
        wait(host, connection, domain, Deadline(min(_MOVED, deadline.remaining)), talk)
    except Unreachable:
        if deadline.remaining < _MOVED:
            raise
        talk.say("the guest did not notice its new network, so it is restarted")
        if not domain.shutdown(SHUTDOWN):
            domain.power_off()
        domain.start()
        wait(host, connection, domain, deadline, talk)


def check(domain: Domain, network: Network) -> None:
    """Raise VerificationFailed unless the running VM is in the network alone, and the network has no way out."""
    if ET.fromstring(network.xml()).find("forward") is not None:
        raise VerificationFailed(f"the network {network.name} forwards packets, so it isolates nothing")
    devices = ET.fromstring(domain.xml(live=True)).find("devices")
    found = [each for each in devices if each.tag in {"interface", "hostdev"}] if devices is not None else []
    for device in found:
        source = device.find("source")
        if device.tag != "interface" or source is None or source.get("network") != network.name:
            raise VerificationFailed(f"the VM {domain.name} is still connected to another network")
