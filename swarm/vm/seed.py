"""The seed: a NoCloud ISO that configures a guest at its first boot."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pycdlib

from swarm.templates import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from swarm.inventory import Host

__all__ = ["device_xml", "iso", "seed_files"]

_LABEL = "CIDATA"  # the label of cloud-init's NoCloud file system


def seed_files(
    host: Host, instance: str, host_key: tuple[str, str], authorized_keys: Sequence[str], *, has_agent: bool
) -> dict[str, str]:
    """Return the seed's files by name.

    `instance` makes cloud-init treat the guest as a new machine. `host_key` is (private, public). Without
    `has_agent`, the guest agent is installed at the first boot.
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
    """Return an ISO 9660 image of `files` with Joliet and Rock Ridge names. It holds secrets and stays in memory."""
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
    """Return the seed's disk element, which identifies the device to detach."""
    from xml.sax.saxutils import quoteattr

    source = f"<driver name='qemu' type='raw'/><source file={quoteattr(path)}/>"
    return f"<disk type='file' device='disk'>{source}<target dev='vdb' bus='virtio'/><readonly/></disk>"
