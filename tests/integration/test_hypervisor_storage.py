"""Pools and volumes of a real libvirt. An incomplete volume is never used."""

from __future__ import annotations

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from threading import Event
from typing import TYPE_CHECKING

import pytest

from swarm.errors import HypervisorError
from swarm.hypervisor.connection import Libvirt
from swarm.hypervisor.storage import Pool, Volume, find_pool, make_pool
from swarm.inventory import GIB
from swarm.paths import ROOT
from swarm.vm import desired
from tests.integration.pools import DATA, FOLDER

if TYPE_CHECKING:
    from swarm.embedded import Embedded


def test_a_pool_is_made_once(libvirt: Libvirt, embedded: Embedded) -> None:
    """A directory becomes a pool that is found again, has autostart, and is searchable but not listable."""
    folder = PurePosixPath("/var/lib/libvirt/other/images")
    assert find_pool(libvirt, folder) is None
    first, second = make_pool(libvirt, FOLDER.parent / "twin" / "images"), make_pool(libvirt, folder)
    try:
        assert first.name != second.name
        found = find_pool(libvirt, folder)
        assert found
        assert (found.name, found.volumes(), bool(found.raw.autostart())) == (second.name, [], True)
        assert (embedded.state / "lib/other/images").stat().st_mode & 0o777 == 0o711
        assert found.available > 0
        found.raw.destroy()
        found.activate()
        assert found.raw.isActive()
    finally:
        for made in (first, second):
            made.raw.destroy()
            made.raw.undefine()


def test_what_is_uploaded_is_what_is_there(pool: Pool) -> None:
    """An upload is complete, reports its progress, and can be read back, whole or from its end."""
    progress: list[int] = []
    made = pool.upload("data", io.BytesIO(DATA), len(DATA), "raw", progress.append)
    assert (made.name, made.physical, made.path) == ("data", len(DATA), str(FOLDER / "data"))
    assert progress == sorted(progress)
    assert progress[-1] == len(DATA)
    assert pool.tail("data", 1 << 30)[0] == DATA
    assert pool.tail("data", 100)[0] == DATA[-100:]
    assert pool.tail("data", 1 << 30)[0] == DATA
    assert pool.tail("data", 0)[0] == b""
    assert pool.delete("data") is True
    assert (pool.delete("data"), pool.find("data")) == (False, None)
    with pytest.raises(HypervisorError, match="has no volume data"):
        pool.tail("data", 1)


class Breaking(io.BytesIO):
    """A file that fails in the middle."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(DATA)
        self.error = error

    def read(self, size: int | None = -1) -> bytes:
        """Fail after two MiB."""
        if self.tell() >= 2 << 20:
            raise self.error
        return super().read(size)


@pytest.mark.parametrize(
    "error",
    [OSError("disk torn out"), KeyboardInterrupt(), HypervisorError("no")],
    ids=["error", "Ctrl-C", "ours"],
)
def test_an_upload_that_breaks_leaves_nothing(pool: Pool, error: BaseException) -> None:
    """An interrupted upload, also by Ctrl-C, leaves no volume, and the next attempt succeeds."""
    with pytest.raises(type(error)):
        pool.upload("data", Breaking(error), len(DATA), "qcow2")
    pool.refresh()
    assert pool.find("data") is None
    assert pool.upload("data", io.BytesIO(DATA), len(DATA), "qcow2").physical == len(DATA)


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_a_source_that_is_too_short_is_not_taken_for_whole(pool: Pool, kind: str) -> None:
    """A file that shrinks while it is read raises an error and leaves no volume."""
    with pytest.raises(
        HypervisorError, match=f"uploading data ended early: the file held 1000 of {len(DATA)} bytes"
    ):
        pool.upload("data", io.BytesIO(DATA[:1000]), len(DATA), kind)
    pool.refresh()
    assert pool.find("data") is None


_UPLOADER = """
import io, sys, time
from pathlib import Path, PurePosixPath
from swarm.embedded import Embedded
from swarm.hypervisor.connection import Libvirt
from swarm.hypervisor.storage import find_pool

size = 5 << 20

class Slow(io.BytesIO):
    def read(self, count=-1):
        if self.tell() >= 2 << 20:
            print("half", flush=True)
            time.sleep(600)
        return super().read(count)

with Libvirt("embedded", Embedded(Path(sys.argv[1]))) as connection:
    pool = find_pool(connection, PurePosixPath("/var/lib/libvirt/images"))
    pool.upload(sys.argv[2], Slow(bytes(size)), size, "qcow2")
"""


def test_an_upload_that_was_killed_is_not_taken_for_whole(pool: Pool, embedded: Embedded) -> None:
    """After kill -9 during an upload, the incomplete volume is replaced."""
    name = desired.base_volume("ubuntu", "0" * 64, 5 << 20)
    argv = [sys.executable, "-c", _UPLOADER, str(embedded.state.parent), name]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as uploader:
        assert uploader.stdout
        assert uploader.stdout.readline() == "half\n"
        uploader.kill()
    pool.refresh()
    left = pool.find(name)
    promised = desired.base_volume_size(name)
    assert left is None or (promised and left.physical < promised)
    pool.delete(name)
    assert pool.upload(name, io.BytesIO(DATA), len(DATA), "qcow2").physical == promised


def test_a_disk_is_an_overlay_that_grows(pool: Pool, base_volume: Volume) -> None:
    """A VM's disk contains only its differences from the base image, can grow, and never shrinks."""
    made = pool.overlay("zap <&'.qcow2", base_volume, 60 * GIB)
    assert made.capacity == 60 * GIB
    assert made.physical < 1 << 20
    xml = pool.raw.storageVolLookupByName(made.name).XMLDesc()
    assert "<backingStore>" in xml
    assert base_volume.path in xml
    pool.resize(made.name, 80 * GIB)
    grown = pool.find(made.name)
    assert grown
    assert grown.capacity == 80 * GIB
    with pytest.raises(HypervisorError, match="growing the disk"):
        pool.resize(made.name, 10 * GIB)
    with pytest.raises(HypervisorError, match="creating the disk"):
        pool.overlay(made.name, base_volume, GIB)  # it is there already


def test_others_make_volumes_at_the_same_time(embedded: Embedded, pool: Pool, base_volume: Volume) -> None:
    """An upload is complete, and a pool is listed, although another run makes one volume after the other in it."""
    over = Event()

    def make() -> None:
        with Libvirt("embedded", embedded) as connection:
            there = find_pool(connection, FOLDER)
            assert there
            while not over.wait(0.01):
                there.overlay("other.qcow2", base_volume, 2 * GIB)
                there.delete("other.qcow2")

    with ThreadPoolExecutor(1) as other:
        making = other.submit(make)
        try:
            for _ in range(20):
                assert pool.activate()
                made = pool.upload("data", io.BytesIO(DATA), len(DATA), "raw")
                assert made.physical == len(DATA)
                pool.delete("data")
        finally:
            over.set()
        making.result()
