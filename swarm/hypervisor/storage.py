"""Storage pools and volumes. A volume that was not written completely is never taken for complete."""

from __future__ import annotations

import contextlib
import errno
import io
import shlex
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import libvirt

from swarm.deadline import Deadline
from swarm.errors import HypervisorError, Refused
from swarm.hypervisor.connection import Libvirt, found, start, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import BinaryIO

__all__ = ["Pool", "Volume", "find_pool", "make_pool", "pool_hint", "strangers"]

_JOBS = "has asynchronous jobs running"  # libvirt's words while a volume is being made
_POLL = 0.05  # seconds between two attempts to refresh a pool
_MADE = 30.0  # seconds that others may take to make volumes in a pool that is to be refreshed
_CHUNK = 256 * 1024  # bytes per write; libvirt's RPC layer splits larger ones


@dataclass(frozen=True)
class Volume:
    """A file in a pool: name, path on the hypervisor, virtual size, bytes on disk, and the path of its backing file."""

    name: str
    path: str
    capacity: int
    allocation: int
    physical: int
    backing: str | None = None

    @classmethod
    def read(cls, raw: Any) -> Volume | None:  # noqa: ANN401 - libvirt's objects have no types
        """Return the volume of a libvirt object, with one call; None if it has just been removed."""
        xml = found(raw.XMLDesc, 0, libvirt.VIR_ERR_NO_STORAGE_VOL)
        if xml is None:
            return None
        tree = ET.fromstring(xml)
        capacity, allocation = (int(tree.findtext(f"./{name}") or 0) for name in ("capacity", "allocation"))
        return cls(
            name=tree.findtext("./name", ""),
            path=tree.findtext("./target/path", ""),
            capacity=capacity,
            allocation=allocation,
            physical=int(tree.findtext("./physical") or allocation),  # the test driver has no physical size
            backing=tree.findtext("./backingStore/path"),
        )


class Pool:
    """A libvirt directory pool."""

    def __init__(self, raw: Any) -> None:  # noqa: ANN401 - libvirt's objects have no types
        self.raw = raw
        self.name = str(raw.name())

    def activate(self, *, build: bool = False) -> bool:
        """Start the pool if it is stopped, have it started with the hypervisor, and refresh its list of volumes.

        Return False if its folder does not exist. With `build`, make the folder instead.
        """
        with translated(f"starting the pool {self.name}"):
            if not _starts(self.raw):
                # Building a pool of another type would write to a disk. Its own start says what is missing.
                if build and ET.fromstring(self.raw.XMLDesc(0)).get("type") == "dir":
                    self.raw.build()
                elif not build:
                    return False
                self.raw.create()
            if not self.raw.autostart():
                self.raw.setAutostart(1)
            return True

    def refresh(self) -> None:
        """Refresh the list of volumes, if possible. A file that disappears meanwhile is no error."""
        with contextlib.suppress(libvirt.libvirtError):
            self.raw.refresh()

    @property
    def available(self) -> int:
        """Free bytes."""
        with translated(f"reading the pool {self.name}"):
            return int(self.raw.info()[3])

    def volumes(self) -> list[Volume]:
        """Return all volumes."""
        with translated(f"listing the pool {self.name}"):
            return list(filter(None, map(Volume.read, self.raw.listAllVolumes())))

    def find(self, name: str) -> Volume | None:
        """Return the volume called `name`, or None."""
        raw = self._lookup(name)
        with translated(f"reading the volume {name}"):
            return Volume.read(raw) if raw else None

    def delete(self, name: str) -> bool:
        """Delete a volume. Return True if it existed."""
        raw = self._lookup(name)
        if raw is None:
            return False
        with translated(f"deleting the volume {name}"):
            raw.delete()
        return True

    def overlay(self, name: str, base: Volume, capacity: int) -> Volume:
        """Create a qcow2 volume of `capacity` bytes that is backed by `base`. Raise HypervisorError if it exists."""
        backing = f"<backingStore><path>{escape(base.path)}</path><format type='qcow2'/></backingStore>"
        with translated(f"creating the disk {name}"):
            return _made(self.raw.createXML(_volume_xml(name, capacity, "qcow2", backing)))

    def resize(self, name: str, capacity: int) -> None:
        """Grow a volume that no running VM uses to `capacity` bytes. libvirt refuses to shrink it."""
        with translated(f"growing the disk {name}"):
            self._lookup(name).resize(capacity)

    def upload(
        self,
        name: str,
        source: BinaryIO,
        size: int,
        kind: str,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Volume:
        """Write `size` bytes of `source` into a new volume of format `kind`. A failure leaves no volume behind.

        `progress` is called with the number of bytes sent. A kill -9 can leave a volume whose `physical` is too small.
        """
        with translated(f"uploading {name} into the pool {self.name}"):
            raw = self.raw.createXML(_volume_xml(name, size, kind))
            stream = raw.connect().newStream()
            try:
                raw.upload(stream, 0, size)
                sent = 0
                while chunk := source.read(_CHUNK):
                    _send(stream, chunk)
                    sent += len(chunk)
                    progress(sent)
                _check_sent(name, sent, size)
                stream.finish()
            except BaseException:
                with contextlib.suppress(libvirt.libvirtError):
                    stream.abort()
                with contextlib.suppress(libvirt.libvirtError):
                    raw.delete()
                raise
            self.refresh()
            return _made(raw)

    def tail(self, name: str, most: int, after: int = 0) -> tuple[bytes, int]:
        """Return what a volume holds after its first `after` bytes, at most its last `most`, and where that ends.

        A volume that is shorter than `after` by now is read from its beginning. Raise HypervisorError without a volume.
        """
        self.refresh()
        raw = self._lookup(name)
        if raw is None:
            raise HypervisorError(f"the pool {self.name} has no volume {name}")
        with translated(f"reading {name}"):
            size = _made(raw).physical
            offset = max(after if after <= size else 0, size - most)
            if size == offset:
                return b"", size
            stream = raw.connect().newStream()
            raw.download(stream, offset, size - offset)
            target = io.BytesIO()
            stream.recvAll(lambda _stream, data, sink: sink.write(data), target)
            stream.finish()
        return target.getvalue(), size

    def _lookup(self, name: str) -> Any:  # noqa: ANN401 - libvirt's objects have no types
        with translated(f"looking up the volume {name}"):
            return found(self.raw.storageVolLookupByName, name, libvirt.VIR_ERR_NO_STORAGE_VOL)


def find_pool(connection: Libvirt, folder: PurePosixPath) -> Pool | None:
    """Return the pool of the hypervisor's folder `folder`, active or not, or None."""
    with translated("looking up the storage pool"):
        for raw in connection.raw.listAllStoragePools():
            path = ET.fromstring(raw.XMLDesc(0)).findtext("./target/path")
            if path and PurePosixPath(path) == folder:
                return Pool(raw)
    return None


def make_pool(connection: Libvirt, folder: PurePosixPath) -> Pool:
    """Define and start a directory pool for `folder`, and name it after the folder.

    The folder is made, with the mode 0711, or is an empty one that keeps its mode. Raise Refused, and leave no pool
    behind, if it holds files: in a pool they would be volumes, which can be deleted.
    """
    with translated(f"creating a storage pool for {folder}"):
        taken = {raw.name() for raw in connection.raw.listAllStoragePools()}
        name = next(
            name
            for name in (folder.name, *(f"{folder.name}-{n}" for n in range(2, 100)))
            if name not in taken
        )
        # 0711: QEMU's user opens files by name, and no other user needs to list them.
        target = (
            f"<target><path>{escape(str(folder))}</path><permissions><mode>0711</mode></permissions></target>"
        )
        raw = connection.raw.storagePoolDefineXML(
            f"<pool type='dir'><name>{escape(name)}</name>{target}</pool>"
        )
        try:
            if _starts(raw):
                _need_empty(connection, raw, folder)
            else:
                raw.build()  # this changes the mode of a folder that is there
        except BaseException:
            _undefine(raw)
            raise
    pool = Pool(raw)
    pool.activate()
    return pool


def _starts(raw: Any) -> bool:  # noqa: ANN401 - libvirt's objects have no types
    """Start the pool if it is stopped, and refresh it. Return False if its folder does not exist."""
    try:
        start(raw)
        _refresh(raw)
    except libvirt.libvirtError as error:
        # libvirt passes errno on as the first detail of VIR_ERR_SYSTEM_ERROR, also from another machine.
        if error.get_error_code() != libvirt.VIR_ERR_SYSTEM_ERROR or error.get_int1() != errno.ENOENT:
            raise
        return False
    return True


def _refresh(raw: Any) -> None:  # noqa: ANN401 - libvirt's objects have no types
    """Refresh a pool. libvirt refuses that while somebody else makes a volume in it, so wait for a limited time."""
    deadline = Deadline(_MADE)
    while True:
        try:
            raw.refresh()
        except libvirt.libvirtError as error:
            if _JOBS not in str(error) or not deadline.pause(_POLL):
                raise
        else:
            return


def _need_empty(connection: Libvirt, raw: Any, folder: PurePosixPath) -> None:  # noqa: ANN401 - no types
    """Raise Refused if the folder of a new pool holds anything but what a new file system has."""
    if held := strangers(raw.listVolumes()):
        raise Refused(f"{folder} on the hypervisor {held}", pool_hint(connection, folder))


def strangers(names: Iterable[str]) -> str:
    """Say that a folder with files of these names should not become a pool; empty if it may."""
    held = sorted(set(names) - {"lost+found"})
    return f"is no storage pool, and it holds files such as {held[0]!r}" if held else ""


def pool_hint(connection: Libvirt, folder: PurePosixPath) -> str:
    """Return how to go on if a folder with files is to become a pool all the same."""
    define = ["pool-define-as", folder.name, "dir", "--target", str(folder)]
    pool = shlex.join(["virsh", "-c", connection.uri, *define])
    return (
        f"choose a folder for vm.disk_path that holds nothing else, or make this one a pool yourself: {pool}"
    )


def _undefine(raw: Any) -> None:  # noqa: ANN401 - libvirt's objects have no types
    """Remove a new pool's definition. Its folder stays."""
    with contextlib.suppress(libvirt.libvirtError):
        if raw.isActive():
            raw.destroy()
    with contextlib.suppress(libvirt.libvirtError):
        raw.undefine()


def _volume_xml(name: str, capacity: int, kind: str, backing: str = "") -> str:
    """Return the XML of a volume that takes no space until it is written to."""
    size = f"<capacity>{capacity}</capacity><allocation>0</allocation>"
    return (
        f"<volume><name>{escape(name)}</name>{size}<target><format type='{kind}'/></target>{backing}</volume>"
    )


def _check_sent(name: str, sent: int, size: int) -> None:
    if sent != size:
        raise HypervisorError(
            f"uploading {name} ended early: the file held {sent} of {size} bytes", "run the command again"
        )


def _send(stream: Any, data: bytes) -> None:  # noqa: ANN401 - libvirt's objects have no types
    view = memoryview(data)
    while view:
        view = view[stream.send(bytes(view)) :]


def _made(raw: Any) -> Volume:  # noqa: ANN401 - libvirt's objects have no types
    volume = Volume.read(raw)
    if volume is None:
        raise HypervisorError(f"the new volume {raw.name()} is gone", "run the command again")
    return volume
