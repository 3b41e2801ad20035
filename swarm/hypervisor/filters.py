"""A network filter of libvirt (nwfilter): rules that the hypervisor applies to a VM's network interface."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import libvirt

from swarm.hypervisor.connection import found, translated

if TYPE_CHECKING:
    from swarm.hypervisor.connection import Libvirt

__all__ = ["Filter", "rules", "supported"]

Rule = tuple[tuple[str, str], ...]


def rules(xml: str) -> list[tuple[Rule, str, Rule]]:
    """Return the rules of a filter in a form that does not depend on layout or on the order of attributes."""
    return [
        (tuple(sorted(rule.attrib.items())), each.tag, tuple(sorted(each.attrib.items())))
        for rule in ET.fromstring(xml).findall("rule")
        for each in rule
    ]


class Filter:
    """A filter that may not exist yet. Given the connection and the filter's name."""

    def __init__(self, connection: Libvirt, name: str) -> None:
        self.name = name
        self._connection = connection

    def xml(self) -> str | None:
        """Return its definition, or None if there is none. Raise HypervisorError."""
        with translated(f"reading the network filter {self.name}"):
            raw = found(self._connection.raw.nwfilterLookupByName, self.name, libvirt.VIR_ERR_NO_NWFILTER)
            return None if raw is None else str(raw.XMLDesc(0))

    def define(self, xml: str) -> None:
        """Define or redefine it. The new rules apply to running VMs at once. Raise HypervisorError."""
        with translated(f"defining the network filter {self.name}"):
            self._connection.raw.nwfilterDefineXML(xml)

    def remove(self) -> bool:
        """Remove it. Return True if it existed. Raise HypervisorError if a running VM has it."""
        with translated(f"removing the network filter {self.name}"):
            raw = found(self._connection.raw.nwfilterLookupByName, self.name, libvirt.VIR_ERR_NO_NWFILTER)
            if raw is not None:
                raw.undefine()
        return raw is not None


def supported(connection: Libvirt) -> bool:
    """Return whether the hypervisor has network filters."""
    try:
        connection.raw.listNWFilters()
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return False
        with translated("listing the network filters"):
            raise
    return True
