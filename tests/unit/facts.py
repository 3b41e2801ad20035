"""A host's VM as plain data, for the tests of plans."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from swarm.hypervisor.storage import Volume
from swarm.inventory import GIB, Host, NetworkFacts
from swarm.vm import desired, egress, shape
from swarm.vm.desired import Note
from swarm.vm.difference import changes
from swarm.vm.observe import DomainFacts, Observed

DISK = "/var/lib/libvirt/images/claw.qcow2"


CREATED = [
    "+ image: ubuntu-24.04",
    "+ base volume: uploaded into the hypervisor's pool",
    "+ reservation: 192.168.122.182 for 52:54:00:01:00:71",
    "+ network filter: lets the guest reach the internet, and no private address",
    "+ host key: made here and pinned before the first boot",
    "+ seed: host key, users and network for the first boot",
    "+ domain: zap [claw]: 3072 MiB, 2 vCPUs, Secure Boot, TPM 2.0, emulation",
    "+ disk: /var/lib/libvirt/images/claw.qcow2, 60G",
    "~ autostart: off → on",
    "▸ start",
    "▸ first boot: wait until the guest is ready, then eject and delete the seed",
]
FIRST_BOOT = "▸ first boot: wait until the guest is ready, then eject and delete the seed"


KEY = "ssh-ed25519 AAAAkey"


NETWORK = NetworkFacts(
    name="default",
    subnet=IPv4Network("192.168.122.0/24"),
    gateway=IPv4Address("192.168.122.1"),
    dynamic_ranges=((IPv4Address("192.168.122.2"), IPv4Address("192.168.122.254")),),
    reservations={"52:54:00:01:00:71": IPv4Address("192.168.122.182")},
)


def volume(name: str = "claw.qcow2", capacity: int = 60 * GIB, physical: int = 5 * GIB) -> Volume:
    """Return a volume of the pool."""
    return Volume(name, f"/var/lib/libvirt/images/{name}", capacity, physical, physical)


def domain(host: Host, *, seed: bool = False, **fields: Any) -> DomainFacts:
    """Return the running domain of a provisioned host, with `fields` changed."""
    path = f"/var/lib/libvirt/images/{desired.seed_volume(host)}"
    xml = desired.domain_xml(host, "qemu", path if seed else None)
    note = Note(host.name, "qemu", KEY, host.vm.image, shape.hashes(xml), shape.hashes(xml))
    facts = DomainFacts(
        host.vm.domain, desired.domain_uuid(host), "running", host.vm.autostart, xml, xml, note, note
    )
    return replace(facts, **fields)


def observed(host: Host, **fields: Any) -> Observed:
    """Return what is observed after a provision, with `fields` changed."""
    made = Observed(
        domain=domain(host),
        network=NETWORK,
        network_active=True,
        reserved=True,
        filter=egress.Facts(egress.filter_xml(host, NETWORK, ())),
        pool="images",
        disk=volume(),
        pinned=KEY,
    )
    return replace(made, **fields)


def nothing(**fields: Any) -> Observed:
    """Return what is observed before a first provision, with `fields` changed."""
    return replace(Observed(network=replace(NETWORK, reservations={}), network_active=True), **fields)


def lines(host: Host, seen: Observed, *, restart: bool = False) -> list[str]:
    """Return the plan as the terminal shows it."""
    return [change.line() for change in changes(host, seen, restart=restart)]
