"""The seed: a NoCloud ISO that tells a guest, at its first boot, who it is."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pycdlib

from swarm.templates import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from swarm.inventory import Host

__all__ = ["device_xml", "iso", "seed_files"]

_LABEL = "CIDATA"  # cloud-init's NoCloud looks for a file system of this name


def seed_files(
    host: Host, instance: str, host_key: tuple[str, str], authorized_keys: Sequence[str], *, has_agent: bool
) -> dict[str, str]:
    """Return the seed's files by name.

    `instance` makes cloud-init treat this as a new machine, `host_key` is (private, public), and `has_agent` says whether
    the image brings the guest agent, which is installed at first boot otherwise.
    """
    values = {
        "vm": host.vm,
        "instance": instance,
        "host_private_key": host_key[0],
        "host_public_key": host_key[1],
        "authorized_keys": list(authorized_keys),
        "has_agent": has_agent,
    }
    return {
        name: render(f"seed/{name}.j2", **values) for name in ("meta-data", "user-data", "network-config")
    }


def iso(files: dict[str, str]) -> bytes:
    """Return an ISO 9660 image, with Joliet and Rock Ridge names, that holds `files`. It is made in memory: it has secrets."""
    image = pycdlib.PyCdlib()
    image.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=_LABEL)
    for number, (name, text) in enumerate(files.items()):
        data = text.encode()
        image.add_fp(io.BytesIO(data), len(data), f"/F{number}.;1", rr_name=name, joliet_path=f"/{name}")
    target = io.BytesIO()
    image.write_fp(target)
    image.close()
    return target.getvalue()


def device_xml(path: str) -> str:
    """Return the seed's disk as libvirt needs it to take it out of a domain."""
    from xml.sax.saxutils import quoteattr

    what = f"<driver name='qemu' type='raw'/><source file={quoteattr(path)}/><target dev='vdb' bus='virtio'/><readonly/>"
    return f"<disk type='file' device='disk'>{what}</disk>"
