"""The libvirt network and its DHCP reservations, live and configured."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any
from xml.sax.saxutils import quoteattr

import libvirt

from swarm.errors import HypervisorError
from swarm.hypervisor.connection import Libvirt, found, translated

__all__ = ["Network"]

_HOSTS = "./ip/dhcp/host"


class Network:
    """A libvirt network that may not exist yet. Given the connection and the network's name."""

    def __init__(self, connection: Libvirt, name: str) -> None:
        self.name = name
        self._connection = connection
        with translated(f"looking for the network {name}"):
            self._raw = found(connection.raw.networkLookupByName, name, libvirt.VIR_ERR_NO_NETWORK)

    @property
    def exists(self) -> bool:
        """Whether libvirt knows it."""
        return self._raw is not None

    @property
    def active(self) -> bool:
        """Whether it runs."""
        return self._raw is not None and bool(self._raw.isActive())

    def xml(self) -> str:
        """Return its configuration: the stored one, or the live one of a network that has no stored one."""
        raw = self._need()
        with translated(f"reading the network {self.name}"):
            return str(raw.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE if raw.isPersistent() else 0))

    def leases(self) -> list[tuple[str, str]]:
        """Return (address, MAC) of each lease that the DHCP server gave; empty while the network is stopped."""
        if not self.active:
            return []
        with translated(f"reading the leases of the network {self.name}"):
            return [
                (lease["ipaddr"], lease["mac"].lower())
                for lease in self._raw.DHCPLeases()
                if lease.get("mac")
            ]

    def define(self, xml: str) -> None:
        """Define the network from `xml`."""
        with translated(f"defining the network {self.name}"):
            self._raw = self._connection.raw.networkDefineXML(xml)

    def activate(self) -> None:
        """Start it if it is stopped, and have it started with the hypervisor."""
        raw = self._need()
        with translated(f"starting the network {self.name}"):
            if not raw.isActive():
                raw.create()
            if raw.isPersistent() and not raw.autostart():
                raw.setAutostart(1)

    def reserved(self, mac: str, ip: str, name: str) -> bool:
        """Whether the address is reserved for the MAC, under that name, in every view that the network has."""
        return all(self._hosts(view).get(mac) == (ip, name) for view, _ in self._views())

    def reservation(self, mac: str) -> str | None:
        """Return the address that is reserved for the MAC, in any view, or None."""
        return next((held[0] for view, _ in self._views() if (held := self._hosts(view).get(mac))), None)

    def reserve(self, mac: str, ip: str, name: str) -> None:
        """Reserve the address. A reservation of the same MAC is modified; live and configured are handled each on its own."""
        entry = f"<host mac={quoteattr(mac)} name={quoteattr(name)} ip={quoteattr(ip)}/>"
        for view, flag in self._views():
            current = self._hosts(view).get(mac)
            if current != (ip, name):
                # libvirt refuses both a second ADD of a MAC and a MODIFY of an unknown one.
                command = (
                    libvirt.VIR_NETWORK_UPDATE_COMMAND_MODIFY
                    if current
                    else libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST
                )
                self._update(command, entry, flag)

    def release(self, mac: str) -> bool:
        """Remove the reservation of the MAC; return whether there was one."""
        gone = False
        for view, flag in self._views():
            if current := self._hosts(view).get(mac):
                self._update(
                    libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE,
                    f"<host mac={quoteattr(mac)} ip={quoteattr(current[0])}/>",
                    flag,
                )
                gone = True
        return gone

    def _update(self, command: int, entry: str, flag: int) -> None:
        with translated(f"changing the reservations of the network {self.name}"):
            self._need().update(command, libvirt.VIR_NETWORK_SECTION_IP_DHCP_HOST, -1, entry, flag)

    def _views(self) -> list[tuple[int, int]]:
        """The XML views that exist, each with the flag that changes it."""
        raw = self._need()
        views = (
            [(libvirt.VIR_NETWORK_XML_INACTIVE, libvirt.VIR_NETWORK_UPDATE_AFFECT_CONFIG)]
            if raw.isPersistent()
            else []
        )
        return [*views, (0, libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE)] if raw.isActive() else views

    def _hosts(self, view: int) -> dict[str, tuple[str, str]]:
        with translated(f"reading the network {self.name}"):
            tree = ET.fromstring(self._need().XMLDesc(view))
        return {
            host.get("mac", "").lower(): (host.get("ip", ""), host.get("name", ""))
            for host in tree.findall(_HOSTS)
        }

    def _need(self) -> Any:  # noqa: ANN401 - libvirt's objects have no types
        if self._raw is None:
            raise HypervisorError(
                f"there is no libvirt network {self.name!r}",
                "define it (virsh net-define /usr/share/libvirt/networks/default.xml), or name another one under hypervisor.network",
            )
        return self._raw
