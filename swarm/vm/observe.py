"""What is there: one look at libvirt, the images and the pinned key, as plain data. Changes nothing."""

from __future__ import annotations

import ipaddress
import os
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from swarm import images, ssh
from swarm.errors import HypervisorError, Unfit
from swarm.hypervisor.domain import Domain, Trial
from swarm.hypervisor.network import Network
from swarm.hypervisor.storage import Volume, find_pool
from swarm.inventory import Host, NetworkFacts
from swarm.vm import desired
from swarm.vm.desired import Note

if TYPE_CHECKING:
    from swarm.hypervisor.connection import Libvirt

__all__ = ["DomainFacts", "Observed", "acceleration", "network_facts", "observe", "share_problem"]


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
        """The path of the root disk."""
        return _source(self.xml, "vda")

    @property
    def seed(self) -> str | None:
        """The path of the seed, while the domain has one: until the first boot is over."""
        return _source(self.xml, "vdb") or (_source(self.live_xml, "vdb") if self.live_xml else None)


@dataclass(frozen=True)
class Observed:
    """Everything that a plan is made from. `others` maps each MAC of other domains to their names."""

    domain: DomainFacts | None = None
    namesake: str | None = None
    network: NetworkFacts | None = None
    network_active: bool = False
    reserved: bool = False
    pool: str | None = None
    disk: Volume | None = None
    seed: Volume | None = None
    base: Volume | None = None
    image_cached: bool = False
    pinned: str | None = None
    kind: str = "qemu"
    others: dict[str, str] = field(default_factory=dict)


def observe(host: Host, connection: Libvirt) -> Observed:
    """Return what there is of `host`. Raise HypervisorError if libvirt fails, ImageError for an image that no catalogue has."""
    network = Network(connection, host.hypervisor.network)
    facts = network_facts(network.name, network.xml(), network.leases()) if network.exists else None
    domain, namesake = _domain(host, connection)
    pool = find_pool(connection, host.vm.disk_path.parent)
    # A pool that is stopped shows nothing; starting it changes nothing that the host file speaks of.
    if pool:
        pool.activate()
    found = {volume.name: volume for volume in pool.volumes()} if pool else {}
    image = images.find(host.vm.image) if domain is None else None
    return Observed(
        domain=domain,
        namesake=namesake,
        network=facts,
        network_active=network.active,
        reserved=network.exists and network.reserved(host.vm.mac, str(host.vm.ip), host.vm.hostname),
        pool=pool.name if pool else None,
        disk=found.get(host.vm.disk_path.name),
        seed=found.get(desired.seed_volume(host)),
        base=_base(found, image),
        image_cached=image is not None,
        pinned=ssh.pinned(host.known_hosts),
        kind=_kind(host, domain) if domain else acceleration(host, connection),
        others=_other_macs(connection, desired.domain_uuid(host)) if domain is None else {},
    )


def acceleration(host: Host, connection: Libvirt) -> str:
    """Return "kvm" where a KVM domain really starts, else "qemu". Raise Unfit where the host file insists on KVM in vain."""
    wanted = host.hypervisor.acceleration
    if wanted != "emulation" and "kvm" in connection.domain_kinds() and Trial.starts(connection, "kvm"):
        return "kvm"
    if wanted == "kvm":
        raise Unfit(
            "this hypervisor cannot run KVM domains, and the host file asks for hypervisor.acceleration: kvm",
            "./inv doctor says what is missing; acceleration: auto takes emulation",
        )
    return "qemu"


def network_facts(name: str, xml: str, leases: list[tuple[str, str]]) -> NetworkFacts:
    """Return a libvirt network's XML and leases as facts. Raise HypervisorError for a network without IPv4 and DHCP."""
    tree = ET.fromstring(xml)
    ip = next(
        (
            entry
            for entry in tree.findall("ip")
            if entry.get("family", "ipv4") == "ipv4" and entry.find("dhcp") is not None
        ),
        None,
    )
    if ip is None:
        raise HypervisorError(
            f"the libvirt network {name!r} hands out no IPv4 addresses by DHCP",
            "name another one under hypervisor.network",
        )
    gateway = ipaddress.IPv4Address(ip.get("address", ""))
    subnet = ipaddress.IPv4Network(f"{gateway}/{ip.get('netmask') or ip.get('prefix')}", strict=False)
    span = ip.find("dhcp/range")
    return NetworkFacts(
        name=name,
        subnet=subnet,
        gateway=gateway,
        dynamic_range=(
            ipaddress.IPv4Address(span.get("start", "")),
            ipaddress.IPv4Address(span.get("end", "")),
        )
        if span is not None
        else None,
        reservations={
            entry.get("mac", "").lower(): ipaddress.IPv4Address(entry.get("ip", ""))
            for entry in ip.findall("dhcp/host")
            if entry.get("mac")
        },
        leases={ipaddress.IPv4Address(address): mac for address, mac in leases if ":" not in address},
    )


def _kind(host: Host, domain: DomainFacts) -> str:
    """The type that an existing domain should have: a VM keeps what it was made with, unless the host file insists."""
    return {"kvm": "kvm", "emulation": "qemu"}.get(host.hypervisor.acceleration, domain.kind)


def _domain(host: Host, connection: Libvirt) -> tuple[DomainFacts | None, str | None]:
    """The host's domain, found by its UUID; and the UUID of another domain that has its name."""
    mine = Domain.find_by_uuid(connection, desired.domain_uuid(host))
    same_name = Domain.find(connection, host.vm.domain)
    namesake = same_name.uuid if same_name and same_name.uuid != desired.domain_uuid(host) else None
    if mine is None:
        return None, namesake
    live = mine.active
    stored, running = mine.note(), mine.note(live=True) if live else None
    facts = DomainFacts(
        name=mine.name,
        uuid=mine.uuid,
        state=mine.state,
        autostart=mine.autostart,
        xml=mine.xml(),
        live_xml=mine.xml(live=True) if live else None,
        note=Note.from_xml(stored) if stored else None,
        live_note=Note.from_xml(running) if running else None,
    )
    return facts, namesake


def _base(found: dict[str, Volume], image: images.Image | None) -> Volume | None:
    """The whole base volume of this image, if the pool has it."""
    name = desired.base_volume(image.name, image.sha256, image.size) if image else None
    volume = found.get(name) if name else None
    return volume if volume and volume.physical == desired.base_volume_size(volume.name) else None


def _other_macs(connection: Libvirt, uuid: str) -> dict[str, str]:
    macs = {}
    for domain in Domain.all(connection):
        if domain.uuid != uuid:
            for mac in ET.fromstring(domain.xml()).findall("./devices/interface/mac"):
                macs[mac.get("address", "").lower()] = domain.name
    return macs


def _source(xml: str, target: str) -> str | None:
    for disk in ET.fromstring(xml).findall("./devices/disk"):
        place, source = disk.find("target"), disk.find("source")
        if place is not None and place.get("dev") == target and source is not None:
            return source.get("file")
    return None


def share_problem(host: Host, connection: Libvirt) -> str | None:
    """Return what is wrong with the shared folder, or None; a folder on another machine is libvirt's to judge."""
    share = host.vm.virtiofs
    if share is None or not connection.local:
        return None
    if not share.source.exists():
        return f"{share.source} does not exist"
    if not share.source.is_dir():
        return f"{share.source} is not a folder"
    if not os.access(share.source, os.R_OK | os.X_OK):
        return f"{share.source} is not readable"
    return None
