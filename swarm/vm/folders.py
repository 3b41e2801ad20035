"""What is wrong with the folder on the hypervisor that is to hold disks."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from swarm.hypervisor.storage import pool_hint, strangers
from swarm.inventory.shares import of_system

if TYPE_CHECKING:
    from swarm.hypervisor.connection import Libvirt

__all__ = ["pool_problem"]


def pool_problem(folder: PurePosixPath, connection: Libvirt) -> tuple[str, str] | None:
    """Return why a folder must not become a pool, as far as that can be seen before it is one, and a hint; or None."""
    # The embedded hypervisor has its own folder at /var/lib/libvirt.
    private = connection.embedded is not None and folder.is_relative_to("/var/lib/libvirt")
    real = Path(os.path.realpath(folder)) if connection.local and not private else None
    if problem := _unfit(folder, real):
        return (
            problem,
            "choose a folder for vm.disk_path that holds nothing else, such as /var/lib/libvirt/images",
        )
    with contextlib.suppress(OSError):
        if real and (held := strangers(path.name for path in real.iterdir())):
            return f"{folder} {held}", pool_hint(connection, folder)
    return None


def _unfit(folder: PurePosixPath, real: Path | None) -> str:
    """Say whether a folder is one of the system or a home. `real` is where it leads, if it is on this machine."""
    if of_system(str(folder)):
        return f"{folder} is a folder of the system"
    if folder.parent == PurePosixPath("/home"):
        return f"{folder} is a home directory"
    if real and of_system(str(real)):
        return f"{folder} leads to {real}, a folder of the system"
    if real and str(real) == os.path.expanduser("~"):  # noqa: PTH111 - Path.home() may raise
        return f"{folder} is your home directory"
    return ""
