"""A guest that writes to its serial console without an end, in a real QEMU of the embedded hypervisor."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from swarm.embedded import mounts

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.hypervisor.connection import Libvirt

_WITHIN = 120.0  # seconds in which an emulated machine writes 5 MiB; a quiet computer needs 8
_MOST = 2 * (4 << 20)  # bytes: the log and the part before it
_FLOOD = bytes.fromhex("baf803b078eeebfd")  # mov dx, 0x3f8; mov al, "x"; out dx, al; jmp to the third
_DOMAIN = """<domain type='qemu'><name>flood</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{disk}'/>
<target dev='hda' bus='ide'/></disk>
<serial type='pty'><log file='{log}' append='off'/><target port='0'/></serial></devices></domain>"""


@pytest.mark.slow
@pytest.mark.skipif(mounts.virtlogd() is None, reason="virtlogd is not installed")
def test_a_flooded_console_log_stays_small(libvirt: Libvirt, base: Path) -> None:
    """The log of a guest that never stops to write is rotated, and takes no more than 8 MiB."""
    folder = base / "flood"
    folder.mkdir()
    folder.chmod(0o777)
    disk, log = folder / "boot.img", folder / "console.log"
    disk.write_bytes(_FLOOD.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    disk.chmod(0o666)
    domain = libvirt.raw.createXML(_DOMAIN.format(disk=disk, log=log), 0)
    try:
        limit = time.monotonic() + _WITHIN
        while not folder.joinpath("console.log.0").exists():
            assert time.monotonic() < limit, f"only {log.stat().st_size} bytes were written"
            time.sleep(0.2)
        assert sum(path.stat().st_size for path in folder.glob("console.log*")) <= _MOST
    finally:
        domain.destroy()
