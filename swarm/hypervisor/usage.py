"""Which disks and MAC addresses the hypervisor's domains use, whoever made them."""

from __future__ import annotations

import os
import posixpath
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import libvirt

from swarm.hypervisor.connection import Libvirt, found, translated
from swarm.hypervisor.storage import Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["Usage", "usage"]


@dataclass(frozen=True)
class Usage:
    """What domains use: a domain's name for each path and each MAC (in lower case).

    Paths are those of disks and of every file that they are backed by. `resolve` brings a path to its canonical form.
    """

    disks: Mapping[str, str] = field(default_factory=dict)
    macs: Mapping[str, str] = field(default_factory=dict)
    resolve: Callable[[str], str] = posixpath.normpath

    def of(self, paths: Iterable[str]) -> dict[str, str]:
        """Return those of `paths` that a domain uses, each with the domain's name."""
        users = {path: self.disks.get(self.resolve(path)) for path in paths}
        return {path: user for path, user in users.items() if user}


def usage(connection: Libvirt, *, besides: str = "") -> Usage:
    """Return what all domains use, except the one with the UUID `besides`.

    Both the stored and the running definition of each count. Backing files are followed as far as libvirt's active
    pools have the volumes. Raise HypervisorError if libvirt fails.
    """
    resolve = _resolver(connection)
    disks: dict[str, str] = {}
    macs: dict[str, str] = {}
    with translated("reading the domains"):
        for raw in connection.raw.listAllDomains():
            if raw.UUIDString() != besides:
                for tree in _definitions(raw):
                    for mac in tree.findall("./devices/interface/mac"):
                        macs[mac.get("address", "").lower()] = raw.name()
                    for path in _sources(connection, tree):
                        _follow(connection, resolve, path, raw.name(), disks)
    return Usage(disks, macs, resolve)


def _resolver(connection: Libvirt) -> Callable[[str], str]:
    """Return what resolves symbolic links, where the hypervisor's paths are this machine's."""
    return os.path.realpath if connection.local and connection.embedded is None else posixpath.normpath


def _definitions(raw: libvirt.virDomain) -> Iterator[ET.Element]:
    """Yield the stored and the running definition; none of a domain that has just been removed."""
    for flag in (libvirt.VIR_DOMAIN_XML_INACTIVE, 0):
        if xml := found(raw.XMLDesc, flag, libvirt.VIR_ERR_NO_DOMAIN):
            yield ET.fromstring(xml)


def _sources(connection: Libvirt, tree: ET.Element) -> Iterator[str]:
    """Yield the path of every disk, and of every backing file that a running domain's definition names."""
    for source in (each for disk in tree.findall("./devices/disk") for each in disk.iter("source")):
        path = source.get("file") or source.get("dev") or source.get("dir")
        if path:
            yield path
        elif source.get("pool") and source.get("volume"):
            yield from _volume_path(connection, source.get("pool", ""), source.get("volume", ""))


def _volume_path(connection: Libvirt, pool: str, volume: str) -> Iterator[str]:
    raw = found(connection.raw.storagePoolLookupByName, pool, libvirt.VIR_ERR_NO_STORAGE_POOL)
    folder = ET.fromstring(raw.XMLDesc(0)).findtext("./target/path") if raw else None
    if folder:
        yield posixpath.join(folder, volume)


def _follow(
    connection: Libvirt, resolve: Callable[[str], str], path: str | None, user: str, disks: dict[str, str]
) -> None:
    """Note `path` and the chain of files behind it as used by `user`."""
    while path and (real := resolve(path)) not in disks:
        disks[real] = user
        raw = found(
            connection.raw.storageVolLookupByPath, posixpath.normpath(path), libvirt.VIR_ERR_NO_STORAGE_VOL
        )
        volume = Volume.read(raw) if raw else None
        path = volume.backing if volume else None
