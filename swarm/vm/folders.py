"""What is wrong with a folder on the hypervisor: the one that is to hold disks, and the one that is shared."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from swarm.hypervisor.storage import strangers
from swarm.inventory.shares import of_system

if TYPE_CHECKING:
    from swarm.hypervisor.connection import Libvirt
    from swarm.inventory import Host

__all__ = ["pool_problem", "share_problem"]


def pool_problem(folder: PurePosixPath, connection: Libvirt) -> str:
    """Say why a folder must not become a pool, as far as that can be seen before it is one; empty if it may."""
    if of_system(str(folder)):
        return f"{folder} is a folder of the system"
    if folder.parent == PurePosixPath("/home"):
        return f"{folder} is a home directory"
    # The embedded hypervisor has its own folder at /var/lib/libvirt.
    if not connection.local or (connection.embedded and folder.is_relative_to("/var/lib/libvirt")):
        return ""
    real = Path(folder).resolve()
    if of_system(str(real)) or str(real) == os.path.expanduser("~"):  # noqa: PTH111 - Path.home() may raise
        return f"{folder} is a folder of the system, or your home directory"
    try:
        held = strangers(path.name for path in real.iterdir())
    except OSError:
        return ""
    return f"{folder} {held}" if held else ""


def share_problem(host: Host, connection: Libvirt) -> str | None:
    """Return what is wrong with the shared folder, or None. A folder on another machine is not checked."""
    share = host.vm.virtiofs
    if share is None or not connection.local:
        return None
    if not share.source.exists():
        return f"{share.source} does not exist"
    if not share.source.is_dir():
        return f"{share.source} is not a folder"
    if not os.access(share.source, os.R_OK | os.X_OK):
        return f"{share.source} is not readable"
    return None
