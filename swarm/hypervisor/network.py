"""A libvirt network and its DHCP reservations, in the running and in the stored definition."""

from __future__ import annotations

import ipaddress
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

import libvirt

from swarm.errors import HypervisorError, Refused
from swarm.hypervisor.connection import Libvirt, found, start, translated

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Network", "Reservation", "clash", "subnet_of", "subnets"]

_HOSTS = "./ip/dhcp/host"
_ADD = libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST
_DELETE = libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE


@dataclass(frozen=True)
class Reservation:
    """One `<host>` element of a network's DHCP section. libvirt requires a MAC or a name; what is missing is empty."""

    mac: str
    ip: str
    name: str

    @classmethod
    def from_xml(cls, element: ET.Element) -> Reservation:
        """Return the reservation that a `<host>` element makes."""
        return cls(element.get("mac", "").lower(), element.get("ip", ""), element.get("name", ""))

    def to_xml(self) -> str:
        """Return the reservation as libvirt's XML."""
        values = (("mac", self.mac), ("name", self.name), ("ip", self.ip))
        return f"<host {' '.join(f'{key}={quoteattr(value)}' for key, value in values if value)}/>"

    def matches(self, other: Reservation) -> bool:
        """Return True if libvirt could take this entry for `other` when asked to delete `other`.

        A MAC that this entry does not have, and a name that `other` does not have, count as equal
        (virNetworkDefUpdateIPDHCPHost in libvirt's network_conf.c).
        """
        same_mac = not self.mac or self.mac == other.mac
        same_name = not other.name or self.name == other.name
        return same_mac and same_name and self.ip == other.ip


def clash(wanted: Reservation, entries: Iterable[Reservation], own: Iterable[str] = ()) -> Reservation | None:
    """Return an entry of another machine that has the IP address or the name of `wanted`, or None.

    `own` holds further MACs of the same machine. libvirt's ADD refuses such an entry, and its MODIFY overwrites it.
    """
    mine = {wanted.mac, *own}
    others = (entry for entry in entries if entry.mac not in mine)
    return next((e for e in others if e.ip == wanted.ip or (e.name and e.name == wanted.name)), None)


def subnet_of(ip: ET.Element) -> ipaddress.IPv4Network:
    """Return the subnet of a network's `<ip>` element. Without a mask, libvirt takes that of the address's class."""
    address = ip.get("address", "")
    first = ipaddress.IPv4Address(address).packed[0]
    classful = 8 if first < 128 else 16 if first < 192 else 24  # noqa: PLR2004 - classes A, B and C
    mask = ip.get("netmask") or ip.get("prefix") or classful
    return ipaddress.IPv4Network(f"{address}/{mask}", strict=False)


def subnets(connection: Libvirt) -> dict[ipaddress.IPv4Network, str]:
    """Return the IPv4 subnets of all networks of the hypervisor, each with the network's name."""
    known = {}
    with translated("listing the networks"):
        for raw in connection.raw.listAllNetworks():
            xml = found(raw.XMLDesc, 0, libvirt.VIR_ERR_NO_NETWORK)  # None if it has just been removed
            for ip in ET.fromstring(xml).findall("ip") if xml else ():
                if ip.get("family", "ipv4") == "ipv4":
                    known[subnet_of(ip)] = str(raw.name())
    return known


class Network:
    """A libvirt network that may not exist yet. Given the connection and the network's name."""

    def __init__(self, connection: Libvirt, name: str) -> None:
        self.name = name
        self._connection = connection
        with translated(f"looking up the network {name}"):
            self.raw = found(connection.raw.networkLookupByName, name, libvirt.VIR_ERR_NO_NETWORK)

    @property
    def exists(self) -> bool:
        """Whether libvirt has it."""
        return self.raw is not None

    @property
    def active(self) -> bool:
        """Whether it runs."""
        with translated(f"reading the network {self.name}"):
            return self.raw is not None and bool(self.raw.isActive())

    def xml(self) -> str:
        """Return its configuration: the stored one, or the live one of a transient network."""
        raw = self._need()
        with translated(f"reading the network {self.name}"):
            return str(raw.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE if raw.isPersistent() else 0))

    def leases(self) -> list[tuple[str, str]]:
        """Return (address, MAC) of each lease that the DHCP server gave; empty while the network is stopped."""
        if not self.active:
            return []
        with translated(f"reading the leases of the network {self.name}"):
            # A driver without a DHCP server of its own, like libvirt's test driver, has no such call.
            leases = found(self.raw.DHCPLeases, None, libvirt.VIR_ERR_NO_SUPPORT) or []
        return [(lease["ipaddr"], lease["mac"].lower()) for lease in leases if lease.get("mac")]

    def define(self, xml: str) -> None:
        """Define the network from `xml`."""
        with translated(f"defining the network {self.name}"):
            self.raw = self._connection.raw.networkDefineXML(xml)

    def create(self, xml: str) -> None:
        """Start a network from `xml` that exists only until it is stopped."""
        with translated(f"starting the network {self.name}"):
            self.raw = self._connection.raw.networkCreateXML(xml)

    def remove(self) -> bool:
        """Stop the network and remove its definition. Return True if it existed."""
        if self.raw is None:
            return False
        raw, self.raw = self.raw, None
        with translated(f"removing the network {self.name}"):
            persistent = raw.isPersistent()
            if raw.isActive():
                raw.destroy()
            if persistent:
                raw.undefine()
        return True

    def activate(self) -> None:
        """Start it if it is stopped, and have it started with the hypervisor."""
        raw = self._need()
        with translated(f"starting the network {self.name}"):
            start(raw)
            if raw.isPersistent() and not raw.autostart():
                raw.setAutostart(1)

    def reservations(self) -> list[Reservation]:
        """Return every reservation of the running and the stored definition, each once."""
        return list(dict.fromkeys(entry for view, _ in self._views() for entry in self._entries(view)))

    def reserved(self, mac: str, ip: str, name: str) -> bool:
        """Return True if the address is reserved for the MAC, under that name, in every definition of the network."""
        wanted = Reservation(mac, ip, name)
        return all(
            [entry for entry in self._entries(view) if entry.mac == mac] == [wanted]
            for view, _ in self._views()
        )

    def reserve(self, mac: str, ip: str, name: str) -> None:
        """Reserve the address in the running and the stored definition; an entry of the same MAC is replaced.

        libvirt's MODIFY takes the first entry with the same MAC or name, so that it can overwrite another machine's.
        The own entry is deleted and added instead. Raise Refused if another entry has the address or the name.
        """
        wanted = Reservation(mac, ip, name)
        if other := clash(wanted, self.reservations()):
            raise Refused(
                f"the network {self.name} already has a reservation with this address or name: {other.to_xml()}",
                "give the host file another vm.ip and vm.hostname, or remove that reservation: virsh net-update",
            )
        for view, flag in self._views():
            current = [entry for entry in self._entries(view) if entry.mac == mac]
            if current != [wanted]:
                for entry in current:
                    self._delete(entry, view, flag)
                self._update(_ADD, wanted, flag)

    def release(self, mac: str) -> bool:
        """Remove every reservation of the MAC. Return True if there was one."""
        gone = False
        for view, flag in self._views():
            for entry in self._entries(view):
                if entry.mac == mac:
                    self._delete(entry, view, flag)
                    gone = True
        return gone

    def _delete(self, entry: Reservation, view: int, flag: int) -> None:
        """Delete exactly `entry`. libvirt deletes the first one that matches, so a second match is refused."""
        if any(other != entry and other.matches(entry) for other in self._entries(view)):
            raise Refused(
                f"the network {self.name} has two reservations of {entry.ip}, and libvirt could delete the wrong one",
                f"remove one of them: virsh net-edit {self.name}",
            )
        self._update(_DELETE, entry, flag)

    def _update(self, command: int, entry: Reservation, flag: int) -> None:
        with translated(f"changing the reservations of the network {self.name}"):
            section = libvirt.VIR_NETWORK_SECTION_IP_DHCP_HOST
            self._need().update(command, section, -1, entry.to_xml(), flag)

    def _views(self) -> list[tuple[int, int]]:
        """Return the definitions that exist, as the flag that reads each and the flag that changes it."""
        raw = self._need()
        with translated(f"reading the network {self.name}"):
            persistent, active = raw.isPersistent(), raw.isActive()
        stored = (libvirt.VIR_NETWORK_XML_INACTIVE, libvirt.VIR_NETWORK_UPDATE_AFFECT_CONFIG)
        live = (0, libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE)
        return [*([stored] if persistent else []), *([live] if active else [])]

    def _entries(self, view: int) -> list[Reservation]:
        with translated(f"reading the network {self.name}"):
            tree = ET.fromstring(self._need().XMLDesc(view))
        return [Reservation.from_xml(host) for host in tree.findall(_HOSTS)]

    def _need(self) -> Any:  # noqa: ANN401 - libvirt's objects have no types
        if self.raw is None:
            raise HypervisorError(
                f"the hypervisor has no network {self.name!r}",
                "define it (virsh net-define /usr/share/libvirt/networks/default.xml), "
                "or change hypervisor.network in the host file",
            )
        return self.raw
