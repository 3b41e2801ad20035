"""Observe one host: read libvirt, the images and the pinned key into plain data. Changes nothing."""

from __future__ import annotations

import ipaddress
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from swarm import images, ssh
from swarm.errors import HypervisorError, Unfit
from swarm.hypervisor.domain import Domain, Trial
from swarm.hypervisor.network import Network, Reservation, subnet_of, subnets
from swarm.hypervisor.usage import usage
from swarm.inventory import EMBEDDED, Host, NetworkFacts
from swarm.vm import desired, egress, fitness
from swarm.vm.desired import Note
from swarm.vm.folders import pool_problem
from swarm.vm.remote import ask
from swarm.vm.share import share_problem
from swarm.vm.shared import Shared

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from swarm.hypervisor.connection import Libvirt
    from swarm.hypervisor.storage import Volume

__all__ = [
    "DomainFacts",
    "Observed",
    "StaleReservation",
    "acceleration",
    "domain_facts",
    "network_facts",
    "observe",
    "seed_of",
]


@dataclass(frozen=True)
class DomainFacts:
    """What libvirt holds of a domain."""

    name: str
    uuid: str
    state: str
    autostart: bool
    xml: str
    live_xml: str | None
    note: Note | None
    live_note: Note | None

    @property
    def kind(self) -> str:
        """The stored definition's type: "kvm" or "qemu"."""
        return ET.fromstring(self.xml).get("type", "")

    @property
    def disk(self) -> str | None:
        """The path of the root disk in the stored definition."""
        return _source(self.xml, "vda")

    @property
    def own_disk(self) -> str | None:
        """The path of the disk that swarm made for the domain."""
        return (self.note.disk if self.note else "") or self.disk

    @property
    def seed(self) -> str | None:
        """The path of the seed, while the domain has one: until the first boot is over."""
        return seed_of(self.xml) or (seed_of(self.live_xml) if self.live_xml else None)

    @property
    def interfaces(self) -> list[tuple[str, str]]:
        """The MAC (in lower case) and the libvirt network of each interface in the stored definition."""
        found = []
        for interface in ET.fromstring(self.xml).findall("./devices/interface[@type='network']"):
            mac, source = interface.find("mac"), interface.find("source")
            if mac is not None and source is not None:
                found.append((mac.get("address", "").lower(), source.get("network", "")))
        return found


@dataclass(frozen=True)
class StaleReservation:
    """A reservation of the domain's own that the host file no longer asks for."""

    network: str
    mac: str
    ip: str


@dataclass(frozen=True)
class Observed:
    """Everything that a plan is made from.

    `namesake` is the UUID of another domain with the name of the host's, and `namesake_host` the host that it was made
    for. `planned` is the network that swarm is to make, and `overlap` another one that has its addresses.
    `pool_problem` says why the disk's folder must not become a pool, with a hint. `disk_lost` says that the domain's
    disk is not where it was.
    `reservations` are those of the host's network, `stale` those of the domain that are to be removed. `macs` and
    `taken` map each MAC, and each path that the host needs, to the name of another domain that uses it. `filter` is
    what is known of its network filter. `share_problem` is what is wrong with the shared folder. `missing` is what a
    new VM needs, each with a remedy.
    """

    domain: DomainFacts | None = None
    namesake: str | None = None
    namesake_host: str = ""
    network: NetworkFacts | None = None
    planned: NetworkFacts | None = None
    overlap: str | None = None
    network_active: bool = False
    reserved: bool = False
    reservations: tuple[Reservation, ...] = ()
    stale: tuple[StaleReservation, ...] = ()
    filter: egress.Facts = field(default_factory=egress.Facts)
    pool: str | None = None
    pool_problem: tuple[str, str] | None = None
    disk: Volume | None = None
    disk_lost: bool = False
    seed: Volume | None = None
    base: Volume | None = None
    image_cached: bool = False
    pinned: str | None = None
    kind: str = "qemu"
    macs: Mapping[str, str] = field(default_factory=dict)
    taken: Mapping[str, str] = field(default_factory=dict)
    share_problem: str | None = None
    missing: tuple[tuple[str, str], ...] = ()

    @property
    def disk_missing(self) -> bool:
        """Whether the disk is certainly not there. Without a pool, only a domain can tell that."""
        return self.disk is None and (self.pool is not None or self.disk_lost)

    @property
    def disk_wanted(self) -> bool:
        """Whether a disk is to be made: for a new domain, and for one that has never finished its first boot."""
        return self.domain is None or (self.disk_missing and self.domain.seed is not None)


def observe(host: Host, connection: Libvirt, shared: Shared | None = None) -> Observed:
    """Return the present state of `host`. Raise HypervisorError if libvirt fails, ImageError for an unknown image.

    Hosts of one hypervisor that are observed at the same moment may share what is the same for all of them.
    """
    shared = shared or Shared(connection, ask(connection.uri, [host]))
    network = Network(connection, host.hypervisor.network)
    facts = network_facts(network.name, network.xml(), network.leases()) if network.exists else None
    domain = domain_facts(host, connection)
    kind = _kind(host, domain) if domain else acceleration(host, connection)
    others = usage(connection, besides=desired.domain_uuid(host), known=shared.holdings)
    filtering = egress.look(host, connection, shared.machine)
    namesake, owner = _namesake(host, connection)
    planned, overlap = _planned(host, connection) if not facts else (None, None)
    seen = Observed(
        domain=domain,
        namesake=namesake,
        namesake_host=owner,
        network=facts,
        planned=planned,
        overlap=overlap,
        network_active=network.active,
        reserved=network.exists and network.reserved(host.vm.mac, str(host.vm.ip), host.vm.hostname),
        reservations=tuple(network.reservations()) if network.exists else (),
        stale=tuple(_stale(host, domain, connection)) if domain else (),
        filter=filtering,
        pinned=ssh.pinned(host.known_hosts),
        kind=kind,
        macs=others.macs,
        taken=others.of((str(host.vm.disk_path), str(host.vm.disk_path.parent / desired.seed_volume(host)))),
        share_problem=share_problem(host, connection, shared.machine),
        missing=(*(() if domain else fitness.missing(connection, kind)), *filtering.missing),
    )
    return _with_volumes(host, connection, shared, seen)


def _with_volumes(host: Host, connection: Libvirt, shared: Shared, seen: Observed) -> Observed:
    folder = host.vm.disk_path.parent
    pool, found = shared.volumes(str(folder))
    if pool is None:
        domain = Domain.find_by_uuid(connection, seen.domain.uuid) if seen.domain else None
        lost = domain is not None and domain.disk_is_missing("vda")
        seen = replace(seen, pool_problem=pool_problem(folder, connection, shared.machine), disk_lost=lost)
    seen = replace(
        seen,
        pool=pool,
        disk=found.get(host.vm.disk_path.name),
        seed=found.get(desired.seed_volume(host)),
    )
    image = images.find(host.vm.image) if seen.disk_wanted else None
    return replace(seen, base=_base(found, image), image_cached=image is not None)


def _stale(host: Host, domain: DomainFacts, connection: Libvirt) -> Iterator[StaleReservation]:
    """Yield the reservations of the domain's present interfaces that have another MAC or network than the host file."""
    for mac, name in domain.interfaces:
        if (mac, name) != (host.vm.mac, host.hypervisor.network):
            network = Network(connection, name)
            for entry in network.reservations() if network.exists else ():
                if entry.mac == mac:
                    yield StaleReservation(name, mac, entry.ip)


def acceleration(host: Host, connection: Libvirt) -> str:
    """Return "kvm" if a KVM domain really starts, else "qemu". Raise Unfit if the host file demands KVM in vain."""
    wanted = host.hypervisor.acceleration
    if wanted != "emulation" and "kvm" in connection.domain_kinds() and Trial.starts(connection, "kvm"):
        return "kvm"
    if wanted == "kvm":
        raise Unfit(
            "this hypervisor cannot run KVM domains, and the host file asks for hypervisor.acceleration: kvm",
            "find out what is missing (./inv doctor), or set acceleration: auto, which falls back to emulation",
        )
    return "qemu"


def network_facts(name: str, xml: str, leases: list[tuple[str, str]]) -> NetworkFacts:
    """Return the facts of a libvirt network's XML and leases. Raise HypervisorError without IPv4 and DHCP."""
    ips = [entry for entry in ET.fromstring(xml).findall("ip") if entry.get("family", "ipv4") == "ipv4"]
    ip = next((entry for entry in ips if entry.find("dhcp") is not None), None)  # libvirt allows only one
    if ip is None:
        raise HypervisorError(
            f"the libvirt network {name!r} hands out no IPv4 addresses by DHCP",
            "change hypervisor.network in the host file",
        )
    return NetworkFacts(
        name=name,
        subnet=subnet_of(ip),
        gateway=ipaddress.IPv4Address(ip.get("address", "")),
        dynamic_ranges=tuple(
            (ipaddress.IPv4Address(span.get("start", "")), ipaddress.IPv4Address(span.get("end", "")))
            for span in ip.findall("dhcp/range")
        ),
        reservations={
            entry.get("mac", "").lower(): ipaddress.IPv4Address(entry.get("ip", ""))
            for entry in ip.findall("dhcp/host")
            if entry.get("mac")
        },
        leases={ipaddress.IPv4Address(address): mac for address, mac in leases if ":" not in address},
        own=frozenset(ipaddress.IPv4Address(entry.get("address", "")) for entry in ips if entry is not ip),
    )


def _kind(host: Host, domain: DomainFacts) -> str:
    """Return the wanted type of an existing domain: the one it was made with, unless the host file says otherwise."""
    return {"kvm": "kvm", "emulation": "qemu"}.get(host.hypervisor.acceleration, domain.kind)


def domain_facts(host: Host, connection: Libvirt) -> DomainFacts | None:
    """Return what libvirt holds of the host's domain, which is found by its UUID, or None."""
    domain = Domain.find_by_uuid(connection, desired.domain_uuid(host))
    if domain is None:
        return None
    live = domain.active
    stored, running = domain.note(), domain.note(live=True) if live else None
    return DomainFacts(
        name=domain.name,
        uuid=domain.uuid,
        state=domain.state,
        autostart=domain.autostart,
        xml=domain.xml(),
        live_xml=domain.xml(live=True) if live else None,
        note=Note.from_xml(stored) if stored else None,
        live_note=Note.from_xml(running) if running else None,
    )


def _namesake(host: Host, connection: Libvirt) -> tuple[str | None, str]:
    """Return the UUID of another domain that has the name of the host's, and the host that it was made for."""
    domain = Domain.find(connection, host.vm.domain)
    if domain is None or domain.uuid == desired.domain_uuid(host):
        return None, ""
    note = domain.note()
    return domain.uuid, Note.from_xml(note).host if note else ""


def _planned(host: Host, connection: Libvirt) -> tuple[NetworkFacts | None, str | None]:
    """Return the network that swarm makes in the embedded hypervisor, and another network that has its addresses."""
    if host.hypervisor.uri != EMBEDDED:
        return None, None
    name = host.hypervisor.network
    planned = network_facts(name, desired.network_xml(name, host.vm.ip), [])
    overlaps = (known for subnet, known in subnets(connection).items() if subnet.overlaps(planned.subnet))
    return planned, next(overlaps, None)


def _base(found: dict[str, Volume], image: images.Image | None) -> Volume | None:
    """Return the complete base volume of this image, if the pool has it."""
    name = desired.base_volume(image.name, image.sha256, image.size) if image else None
    volume = found.get(name) if name else None
    return volume if volume and volume.physical == desired.base_volume_size(volume.name) else None


def seed_of(xml: str) -> str | None:
    """Return the path of the seed in a domain's XML, or None."""
    return _source(xml, "vdb")


def _source(xml: str, target: str) -> str | None:
    for disk in ET.fromstring(xml).findall("./devices/disk"):
        place, source = disk.find("target"), disk.find("source")
        if place is not None and place.get("dev") == target and source is not None:
            return source.get("file")
    return None
