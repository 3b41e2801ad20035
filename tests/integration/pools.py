"""What the tests of a real hypervisor share."""

from __future__ import annotations

from pathlib import PurePosixPath

__all__ = ["DATA", "FOLDER", "MAC"]

FOLDER = PurePosixPath("/var/lib/libvirt/images")
MAC = "52:54:00:01:00:71"
DATA = bytes(range(256)) * 4096 * 5  # 5 MiB
