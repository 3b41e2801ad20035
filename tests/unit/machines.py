"""Machines that swarm did not make, for the tests of what their drills need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm import inventory

if TYPE_CHECKING:
    from swarm.inventory import Host
    from tests.conftest import Dirs

__all__ = ["FAR", "vps"]

FAR = "qemu+tls://127.0.0.1:1/system"
VPS = """hypervisor: {{uri: none}}
machine: {{address: 203.0.113.7, hostname: claw}}
drill: {{hypervisor: "{hypervisor}", image: {image}}}
"""
BACKUP = "backup: {destinations: ['file:///srv/archives/']}\n"


def vps(dirs: Dirs, hypervisor: str = FAR, image: str = "debian-13", *, backup: bool = True) -> Host:
    """Write the host file of a machine that swarm did not make, and return its host."""
    text = VPS.format(hypervisor=hypervisor, image=image) + (BACKUP if backup else "")
    (dirs.hosts / "claw.yaml").write_text(text, encoding="utf-8")
    return inventory.load("claw")
