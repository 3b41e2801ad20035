"""Whether a hypervisor can run the VM, according to libvirt's domain capabilities."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from swarm import images

if TYPE_CHECKING:
    from swarm.hypervisor.connection import Libvirt

__all__ = ["has_agent", "missing"]

# Where the domain capabilities list what the domain needs: path, value, name and remedy.
_NEEDS = (
    (
        "./os/enum[@name='firmware']/value",
        "efi",
        "UEFI firmware",
        "install the package ovmf on the hypervisor",
    ),
    (
        "./os/loader/enum[@name='secure']/value",
        "yes",
        "UEFI firmware with Secure Boot",
        "install the package ovmf on the hypervisor",
    ),
    (
        "./devices/filesystem/enum[@name='driverType']/value",
        "virtiofs",
        "virtiofs",
        "install QEMU 5 or newer on the hypervisor",
    ),
    (
        "./devices/tpm/enum[@name='model']/value",
        "tpm-crb",
        "a TPM model",
        "install the packages swtpm and swtpm-tools on the hypervisor",
    ),
    (
        "./devices/tpm/enum[@name='backendModel']/value",
        "emulator",
        "a software TPM",
        "install the packages swtpm and swtpm-tools on the hypervisor",
    ),
)


def missing(connection: Libvirt, kind: str) -> list[tuple[str, str]]:
    """Return what is missing on the hypervisor for domains of type `kind`, each as (what, remedy)."""
    if not connection.domain_kinds() & {kind}:
        return [(f"QEMU for x86_64 ({kind})", "install the package qemu-system-x86 on the hypervisor")]
    tree = ET.fromstring(connection.domain_capabilities(kind))
    return [
        (what, remedy)
        for path, value, what, remedy in _NEEDS
        if value not in {entry.text for entry in tree.findall(path)}
    ]


def has_agent(image: str) -> bool:
    """Return True if an image has the guest agent installed. Built images do, published ones do not."""
    return any(entry.name == image and entry.kind == "built" for entry in images.entries())
