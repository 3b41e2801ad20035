"""Check a host against the other hosts, the observed network and the existing disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from swarm.errors import InventoryError
from swarm.inventory import uri
from swarm.inventory.document import Document, read, short
from swarm.inventory.fields import size
from swarm.inventory.report import Problem, failure
from swarm.paths import hosts_dir

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from ipaddress import IPv4Address, IPv4Network
    from pathlib import Path

    from swarm.inventory.model import Host

__all__ = ["NetworkFacts", "check_disk", "check_network", "cross_check", "file_of", "locate", "namesake"]

_UNIQUE = ("domain", "disk_path", "mac", "ip")
_NAME = "hostname"


def file_of(name: str) -> Path:
    """Return the path of the host's file."""
    return hosts_dir() / f"{name}.yaml"


def _document(name: str) -> Document:
    """Return the host's file, or an empty document if it cannot be read, so that errors still name a line."""
    path = file_of(name)
    try:
        return read(path)
    except (InventoryError, FileNotFoundError):
        return Document(path, {})


def locate(name: str, *fields: str) -> str:
    """Return "hosts/NAME.yaml:LINE:" for a field (such as "vm", "ip"), or for the section where it belongs."""
    document = _document(name)
    return f"{short(document.path)}:{document.line(fields)}:"


def cross_check(hosts: Iterable[Host], concerning: Collection[str] | None = None) -> None:
    """Raise InventoryError if hosts of one hypervisor share a domain, disk, mac or ip, or a host name in one network.

    libvirt refuses a second reservation with the host name of another one in the same network.

    With `concerning`, report only conflicts that involve one of these hosts. The error is reported for the host that
    comes later in `hosts`, and names the line of the other.
    """
    first: dict[tuple[str, ...], Host] = {}
    found = []
    for host in hosts:
        for where, value in _identity(host).items():
            other = first.setdefault((*_scope(host, where[-1]), where[-1], value), host)
            if other is not host and (concerning is None or {host.name, other.name} & set(concerning)):
                there = locate(other.name, *where).rstrip(":")
                problem = f"{value} is already used by {there}"
                hint = f"choose another value for {host.name}"
                found.append((_document(host.name), Problem(where, problem, hint)))
    if found:
        raise failure(found)


def _identity(host: Host) -> dict[tuple[str, ...], str]:
    """Return what no other host in the same scope may have, by the field."""
    if host.machine:
        return {("machine", "address"): f"{host.machine.address} with port {host.machine.port}"}
    return {("vm", key): str(getattr(host.vm, key)) for key in (*_UNIQUE, _NAME)}


def _scope(host: Host, field: str) -> tuple[str, ...]:
    """Return where a value of the host must be unique: on its hypervisor, or for a host name in its network."""
    place = uri.place(host.hypervisor.uri)
    return (place, host.hypervisor.network) if field == _NAME else (place,)


def namesake(host: Host, others: Iterable[Host]) -> Host | None:
    """Return the first VM of `others` with the same host name in the same network, or None."""

    def named(each: Host) -> tuple[str, ...]:
        return (*_scope(each, _NAME), each.vm.hostname)

    return next((each for each in others if not each.foreign and named(each) == named(host)), None)


@dataclass(frozen=True)
class NetworkFacts:
    """The observed state of a libvirt network and its DHCP server.

    `dynamic_ranges` are the ranges of addresses that DHCP assigns dynamically, each with its first and its last one.
    `reservations` maps each MAC to its reserved address. `leases` maps each leased address to the MAC that holds the
    lease. `own` are further addresses that the hypervisor has in the network, beside the gateway.
    """

    name: str
    subnet: IPv4Network
    gateway: IPv4Address
    dynamic_ranges: tuple[tuple[IPv4Address, IPv4Address], ...] = ()
    reservations: Mapping[str, IPv4Address] = field(default_factory=dict)
    leases: Mapping[IPv4Address, str] = field(default_factory=dict)
    own: frozenset[IPv4Address] = frozenset()

    def holders(self, ip: IPv4Address) -> dict[str, str]:
        """Return the MACs (in lowercase) that hold `ip`, each with "reserved for" or "leased to"."""
        held = {self.leases[ip].lower(): "leased to"} if ip in self.leases else {}
        return held | {
            mac.lower(): "reserved for" for mac, reserved in self.reservations.items() if reserved == ip
        }

    def free(self) -> IPv4Address | None:
        """Return the lowest free address, or None."""
        taken = {self.gateway, *self.own, *self.leases, *self.reservations.values()}
        return next((ip for ip in self.subnet.hosts() if ip not in taken), None)


def check_network(host: Host, network: NetworkFacts) -> None:
    """Raise InventoryError if the host's address cannot be reserved in `network`.

    An address in the dynamic range is valid: dnsmasq does not assign a reserved address to another host.
    """
    ip, subnet = host.vm.ip, network.subnet
    others = {mac: how for mac, how in network.holders(ip).items() if mac != host.vm.mac}
    if ip not in subnet:
        problem = f"is outside the network {network.name}, {subnet}"
    elif ip == network.gateway:
        problem = f"is the gateway of the network {network.name}"
    elif ip in network.own:
        problem = f"is an address of the hypervisor in the network {network.name}"
    elif subnet.num_addresses > 2 and ip == subnet.network_address:  # noqa: PLR2004 - a /31 has none (RFC 3021)
        problem = f"is the address of the network {network.name} itself"
    elif subnet.num_addresses > 2 and ip == subnet.broadcast_address:  # noqa: PLR2004 - as above
        problem = f"is the broadcast address of the network {network.name}"
    elif others:
        mac, how = next(iter(others.items()))
        problem = f"is {how} {mac} in the network {network.name}"
    else:
        return
    free = network.free()
    raise InventoryError(
        f"{locate(host.name, 'vm', 'ip')} vm.ip: {ip} {problem}",
        f"use the free address {free}" if free else "the network has no free address",
    )


def check_disk(host: Host, current_bytes: int | None) -> None:
    """Raise InventoryError if the root disk would have to shrink. `current_bytes` is None if there is no disk yet."""
    if current_bytes is None or current_bytes <= host.vm.disk_size:
        return
    keep, new = size(current_bytes), size(host.vm.disk_size)
    raise InventoryError(
        f"{locate(host.name, 'vm', 'disk_size')} vm.disk_size: the disk cannot shrink from {keep} to {new}",
        f"write {keep}, or destroy the VM and provision it again",
    )
