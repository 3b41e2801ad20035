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
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = ["Holding", "Usage", "holdings", "usage"]


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


@dataclass(frozen=True)
class Holding:
    """What one domain uses: its UUID, its name, its MACs, and its files in their canonical form."""

    uuid: str
    name: str
    macs: tuple[str, ...]
    files: tuple[str, ...]


def usage(connection: Libvirt, *, besides: str = "", known: Sequence[Holding] | None = None) -> Usage:
    """Return what all domains use, except the one with the UUID `besides`.

    `known` is what holdings() has found; it is looked up by default. Raise HypervisorError if libvirt fails.
    """
    disks: dict[str, str] = {}
    macs: dict[str, str] = {}
    for each in holdings(connection) if known is None else known:
        if each.uuid != besides:
            macs |= dict.fromkeys(each.macs, each.name)
            disks = dict.fromkeys(each.files, each.name) | disks
    return Usage(disks, macs, _resolver(connection))


def holdings(connection: Libvirt) -> list[Holding]:
    """Return what each domain uses.

    Both the stored and the running definition of each count. Backing files are followed as far as libvirt's active
    pools have the volumes. Raise HypervisorError if libvirt fails.
    """
    resolve = _resolver(connection)
    backing: dict[str, str | None] = {}
    with translated("reading the domains"):
        return [_holding(connection, resolve, raw, backing) for raw in connection.raw.listAllDomains()]


def _holding(
    connection: Libvirt, resolve: Callable[[str], str], raw: libvirt.virDomain, backing: dict[str, str | None]
) -> Holding:
    macs, files = dict[str, None](), dict[str, None]()
    for tree in _definitions(raw):
        macs |= dict.fromkeys(
            mac.get("address", "").lower() for mac in tree.findall("./devices/interface/mac")
        )
        for path in _sources(connection, tree):
            _follow(connection, resolve, path, files, backing)
    return Holding(raw.UUIDString(), raw.name(), tuple(macs), tuple(files))


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
    connection: Libvirt,
    resolve: Callable[[str], str],
    path: str | None,
    files: dict[str, None],
    backing: dict[str, str | None],
) -> None:
    """Add `path` and the chain of files behind it to `files`. `backing` remembers what is behind each."""
    while path and (real := resolve(path)) not in files:
        files[real] = None
        if path not in backing:
            raw = found(
                connection.raw.storageVolLookupByPath,
                posixpath.normpath(path),
                libvirt.VIR_ERR_NO_STORAGE_VOL,
            )
            volume = Volume.read(raw) if raw else None
            backing[path] = volume.backing if volume else None
        path = backing[path]
