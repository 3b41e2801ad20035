"""Find what a new host can have: an address, a MAC, names and a disk that nothing else has.

The hypervisor is asked, but never started. Where it does not answer, the host files are all that is known.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from itertools import islice
from typing import TYPE_CHECKING

from swarm.embedded import Embedded
from swarm.errors import SwarmError, Unfit, UsageError
from swarm.fleet.ask import ask
from swarm.hypervisor.usage import Usage, usage
from swarm.inventory import EMBEDDED, NetworkFacts
from swarm.inventory.uri import place, remote
from swarm.vm.throwaway import mac_for

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import PurePosixPath

    from swarm.console import Talk
    from swarm.hypervisor.connection import Libvirt
    from swarm.inventory import Host

__all__ = ["Taken", "address", "disk", "numbered", "survey"]

_DEFAULT = IPv4Address("192.168.122.1")  # the gateway of libvirt's "default" network, and of the embedded one
_ASSUMED = 24  # the prefix length of a subnet that nobody could be asked about; that of libvirt's own network
_MOST = 1 << 16  # addresses to look at: a 10.0.0.0/8 has 16 million


@dataclass(frozen=True)
class Taken:
    """What is taken on one hypervisor. `ips` and `macs` say by what.

    `elsewhere` are the addresses of hosts on other hypervisors: free here, but better avoided. `note` says why the
    hypervisor was not asked; `network` is then an assumption.
    """

    network: NetworkFacts
    ips: Mapping[IPv4Address, str] = field(default_factory=dict)
    macs: Mapping[str, str] = field(default_factory=dict)
    elsewhere: frozenset[IPv4Address] = frozenset()
    hostnames: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    disks: frozenset[str] = frozenset()
    used: Usage = field(default_factory=Usage)
    note: str = ""

    def mac(self, name: str, given: str = "") -> str:
        """Return `given`, or a MAC that follows from the host's name. Raise UsageError if `given` is taken."""
        if given and (holder := self.macs.get(given.lower())):
            raise UsageError(
                f"--mac: {given} is already used by {holder}", "leave --mac out to get a free one"
            )
        return given.lower() or mac_for(name, self.macs)


def survey(
    name: str, uri: str, network: str, hosts: Iterable[Host], near: Host | None, own_mac: str, talk: Talk
) -> Taken:
    """Return what is taken on the hypervisor `uri`, by its own answer and by the other `hosts`.

    `near` is the host whose subnet is assumed if the hypervisor does not answer. Reservations for `own_mac` do not
    count: they are for the new host.
    """
    hosts = list(hosts)
    others = [host for host in hosts if host.name != name and not host.foreign]
    machines = _machines(hosts)
    here = [host for host in others if place(host.hypervisor.uri) == place(uri)]
    known = Taken(
        network=_assumed(network, near),
        # A remote hypervisor's networks are not this machine's, from where the machines are reached.
        ips={**({} if remote(uri) else machines), **{host.vm.ip: f"the host {host.name}" for host in here}},
        macs={host.vm.mac: f"the host {host.name}" for host in others},
        elsewhere=frozenset({*machines, *(host.vm.ip for host in others)}),
        hostnames=frozenset(host.vm.hostname for host in here if host.hypervisor.network == network),
        domains=frozenset(host.vm.domain for host in here),
        disks=frozenset(str(host.vm.disk_path) for host in here),
    )
    if uri == EMBEDDED and not Embedded().running:
        return replace(known, note="the embedded hypervisor is not running")
    try:
        with talk.step(f"asking {uri} what is free", silent=True):
            return ask(uri, lambda connection: _asked(known, connection, network, own_mac.lower()))
    except SwarmError as error:
        return replace(known, note=error.message)


def _machines(hosts: Iterable[Host]) -> dict[IPv4Address, str]:
    """Return the addresses of machines that swarm did not make, each with what has it. A DNS name is not resolved."""
    found = dict[IPv4Address, str]()
    for host in hosts:
        if host.machine:
            with suppress(ValueError):
                found[IPv4Address(host.machine.address)] = f"the host {host.name}"
    return found


def _assumed(network: str, near: Host | None) -> NetworkFacts:
    subnet = IPv4Network(f"{near.vm.ip if near else _DEFAULT}/{_ASSUMED}", strict=False)
    return NetworkFacts(network, subnet, subnet.network_address + 1)


def _asked(known: Taken, connection: Libvirt, name: str, own_mac: str) -> Taken:
    from swarm.hypervisor.domain import Domain
    from swarm.hypervisor.network import Network
    from swarm.vm.observe import network_facts

    network = Network(connection, name)
    exists = network.exists  # swarm makes the embedded hypervisor's with its first VM
    facts = network_facts(name, network.xml(), network.leases()) if exists else known.network
    own = {own_mac} - {""}  # an entry by name alone has no MAC either, and is another machine's
    entries = [entry for entry in network.reservations() if entry.mac not in own] if exists else []
    used = usage(connection)
    domains = {domain.name for domain in Domain.all(connection)}
    disks = _volumes(connection)
    held = dict.fromkeys(facts.own, f"the hypervisor in the network {name}")
    held[facts.gateway] = f"the gateway of the network {name}"
    held |= {
        IPv4Address(entry.ip): f"a reservation for {entry.mac or entry.name}"
        for entry in entries
        if entry.ip and ":" not in entry.ip  # libvirt lists those of IPv6 too
    }
    held |= {ip: f"a lease of {mac}" for ip, mac in facts.leases.items() if mac != own_mac}
    macs = {entry.mac: f"a reservation of {entry.ip}" for entry in entries if entry.mac}
    macs |= {mac: f"a lease of {ip}" for ip, mac in facts.leases.items() if mac != own_mac}
    macs |= {mac: f"the domain {domain!r}" for mac, domain in used.macs.items()}
    return replace(
        known,
        network=facts,
        ips={**held, **known.ips},
        macs={**macs, **known.macs},
        hostnames=known.hostnames | {entry.name for entry in entries if entry.name},
        domains=known.domains | domains,
        disks=known.disks | disks,
        used=used,
        note="" if exists else f"the hypervisor has no network {name!r} yet",
    )


def _volumes(connection: Libvirt) -> set[str]:
    """Return the path of every volume in a running pool. A stopped one is not started to look into it."""
    from swarm.hypervisor.connection import translated
    from swarm.hypervisor.storage import Pool

    with translated("listing the storage pools"):
        pools = [Pool(raw) for raw in connection.raw.listAllStoragePools() if raw.isActive()]
    return {volume.path for pool in pools for volume in pool.volumes()}


def address(taken: Taken, given: str = "") -> IPv4Address:
    """Return a free address, or `given` if it is free.

    It is the lowest one, outside the ranges that DHCP hands out if possible, and used by no host of another
    hypervisor if possible. Raise UsageError if `given` can't be used, Unfit if no address is free.
    """
    if given:
        return _given(taken, given)
    network = taken.network
    some = islice(network.subnet.hosts(), _MOST)
    free = [ip for ip in some if ip not in taken.ips and ip != network.gateway]
    if not free:
        raise Unfit(
            f"the network {network.name}, {network.subnet}, has no free address",
            "remove reservations that are no longer needed: virsh net-update",
        )

    def worse(ip: IPv4Address) -> tuple[bool, bool]:
        return any(first <= ip <= last for first, last in network.dynamic_ranges), ip in taken.elsewhere

    return min(free, key=worse)


def _given(taken: Taken, given: str) -> IPv4Address:
    network = taken.network
    try:
        ip = IPv4Address(given)
    except ValueError:
        raise UsageError(
            f"--ip: expected an IPv4 address, found {given!r}", f"for example: --ip {address(taken)}"
        ) from None
    if holder := taken.ips.get(ip):
        problem = f"is already used by {holder}"
    elif not taken.note and ip not in network.subnet:
        problem = f"is outside the network {network.name}, {network.subnet}"
    elif not taken.note and ip in {network.subnet.network_address, network.subnet.broadcast_address}:
        problem = f"can't be assigned in the network {network.name}, {network.subnet}"
    else:
        return ip
    raise UsageError(f"--ip: {ip} {problem}", f"use the free address {address(taken)}")


def disk(taken: Taken, folder: PurePosixPath, name: str) -> PurePosixPath:
    """Return the path of a new disk in `folder`, at which neither a host, nor a domain, nor a pool has a file."""
    for stem in _numbered(name):
        path = folder / f"{stem}.qcow2"
        if str(path) not in taken.disks and not taken.used.of([str(path)]):
            return path
    raise AssertionError("the numbers have no end")


def numbered(wanted: str, taken: Collection[str]) -> str:
    """Return `wanted`, or the first of `wanted`-2, `wanted`-3 … that is not taken."""
    return next(name for name in _numbered(wanted) if name not in taken)


def _numbered(name: str) -> Iterable[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1
