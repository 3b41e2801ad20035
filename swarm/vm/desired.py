"""The libvirt objects that a host file describes. Pure: no I/O."""

from __future__ import annotations

import json
import uuid
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from swarm.hypervisor.domain import NAMESPACE
from swarm.templates import render
from swarm.vm.egress import filter_name, unfiltered
from swarm.vm.shape import FORM

if TYPE_CHECKING:
    from swarm.inventory import Host

__all__ = [
    "BASE_PREFIX",
    "Note",
    "base_volume",
    "base_volume_size",
    "console_volume",
    "console_volumes",
    "domain_uuid",
    "domain_xml",
    "network_subnet",
    "network_xml",
    "seed_volume",
]

# A domain's UUID is derived from its host's name, so that two runs, or two control machines, agree on it.
_UUIDS = uuid.UUID("5a7c1f0e-3f0b-5d8e-9a37-6f2d1c9b8e41")  # a random namespace
BASE_PREFIX = "swarm-base-"
_DEFAULT_SUBNET = IPv4Network("192.168.122.0/24")
_PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))  # RFC 1918


@dataclass(frozen=True)
class Note:
    """What swarm records in a domain's metadata: whose it is, the disk made for it, and hashes of its last definition.

    `disk` is the path of the disk that swarm made for the domain; versions before it was recorded left it empty.
    """

    host: str
    kind: str
    host_key: str
    image: str
    spec: dict[str, str] = field(default_factory=dict)
    have: dict[str, str] = field(default_factory=dict)
    disk: str = ""

    def to_xml(self, *, namespace: bool = False) -> str:
        """Return the note as XML. With `namespace`, it can be part of a definition."""
        values = {
            "form": FORM,
            "host": self.host,
            "kind": self.kind,
            "host-key": self.host_key,
            "image": self.image,
            "disk": self.disk,
        }
        attributes = " ".join(f"{name}={quoteattr(value)}" for name, value in values.items())
        tag = f"swarm:state xmlns:swarm={quoteattr(NAMESPACE)}" if namespace else "state"
        return f"<{tag} {attributes} spec={quoteattr(json.dumps(self.spec))} have={quoteattr(json.dumps(self.have))}/>"

    @classmethod
    def from_xml(cls, xml: str) -> Note:
        """Return the note that `to_xml` wrote.

        Hashes that are damaged, or that another version computed differently, are left out: the domain is then defined
        again.
        """
        state = ET.fromstring(xml)
        names = ("host", "kind", "host-key", "image", "disk")
        host, kind, host_key, image, disk = (state.get(name, "") for name in names)
        spec, have = (
            _hashes(state.get(name, "")) if state.get("form") == FORM else {} for name in ("spec", "have")
        )
        return cls(host, kind, host_key, image, spec, have, disk)


def _hashes(text: str) -> dict[str, str]:
    """Return the hashes that a note holds, or none if they are damaged."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    whole = isinstance(found, dict) and all(isinstance(value, str) for value in found.values())
    return found if whole else {}


def domain_uuid(host: Host) -> str:
    """Return the UUID of the host's domain."""
    return str(uuid.uuid5(_UUIDS, host.name))


def domain_xml(host: Host, kind: str, seed: str | None) -> str:
    """Return the domain's XML. `kind` is "kvm" or "qemu"; `seed` is the seed's path until the first boot is over."""
    return render(
        "domain.xml.j2",
        vm=host.vm,
        network=host.hypervisor.network,
        kind=kind,
        uuid=domain_uuid(host),
        title=f"swarm: {host.name}",
        seed=seed,
        filter=None if unfiltered(host) else filter_name(host),
        console_log=str(host.vm.disk_path.parent / console_volume(host)),
    )


def network_subnet(name: str, ip: IPv4Address) -> IPv4Network:
    """Return the subnet of a network that swarm makes for a host with the address `ip`.

    The network "default" has that of libvirt's own, and any other the /24 around a private address.
    """
    private = any(ip in network for network in _PRIVATE)
    return IPv4Network(f"{ip}/24", strict=False) if private and name != "default" else _DEFAULT_SUBNET


def network_xml(name: str, ip: IPv4Address = _DEFAULT_SUBNET[1]) -> str:
    """Return the XML of the embedded hypervisor's network for the address `ip`. libvirt names its bridge."""
    return render("network.xml.j2", name=name, subnet=network_subnet(name, ip))


def console_volumes(host: Host) -> list[str]:
    """Return the names of the serial console's log and of the earlier parts that virtlogd keeps, three by default."""
    return [console_volume(host), *(f"{console_volume(host)}.{number}" for number in range(3))]


def console_volume(host: Host) -> str:
    """Return the name of the serial console's log, which is beside the disk."""
    return f"swarm-{host.name}-console.log"


def seed_volume(host: Host) -> str:
    """Return the name of the seed, which is beside the disk."""
    return f"swarm-{host.name}-seed.iso"


def base_volume(name: str, sha256: str, size: int) -> str:
    """Return the name of a base image's volume, with the hash of its content and its size in bytes.

    The size in the name shows whether the volume is complete.
    """
    return f"{BASE_PREFIX}{name}-{sha256[:16]}-{size}.qcow2"


def base_volume_size(volume: str) -> int | None:
    """Return the size in bytes that a base volume's name states, or None for any other volume."""
    stem = PurePosixPath(volume).stem
    tail = stem.rpartition("-")[2]
    return int(tail) if volume.startswith(BASE_PREFIX) and tail.isdigit() else None
