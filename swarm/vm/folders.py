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
    from swarm.vm.remote import Found

__all__ = ["pool_problem"]


def pool_problem(
    folder: PurePosixPath, connection: Libvirt, machine: Found | None = None
) -> tuple[str, str] | None:
    """Return why a folder must not become a pool, as far as that can be seen before it is one, and a hint; or None.

    `machine` is what a remote hypervisor's machine says of the folder.
    """
    real, home, names = _there(folder, machine) if machine else _here(folder, connection)
    if problem := _unfit(folder, real, home):
        return (
            problem,
            "choose a folder for vm.disk_path that holds nothing else, such as /var/lib/libvirt/images",
        )
    if held := strangers(names):
        return f"{folder} {held}", pool_hint(connection, folder)
    return None


def _here(folder: PurePosixPath, connection: Libvirt) -> tuple[str, str, tuple[str, ...]]:
    """Return where a folder of this machine leads, the home directory, and what the folder holds."""
    # The embedded hypervisor has its own folder at /var/lib/libvirt.
    private = connection.embedded is not None and folder.is_relative_to("/var/lib/libvirt")
    if private or not connection.local:
        return "", "", ()
    names: tuple[str, ...] = ()
    with contextlib.suppress(OSError):
        names = tuple(path.name for path in Path(folder).iterdir())
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home() may raise
    return os.path.realpath(folder), home, names


def _there(folder: PurePosixPath, machine: Found) -> tuple[str, str, tuple[str, ...]]:
    """Return the same of a folder on another machine, as far as that says it."""
    entry = machine.entry(folder)
    return (entry.real, machine.answer.home, entry.names) if entry and machine.answer else ("", "", ())


def _unfit(folder: PurePosixPath, real: str, home: str) -> str:
    """Say whether a folder is one of the system or a home. `real` is where it leads, or empty if that is not known."""
    if of_system(str(folder)):
        return f"{folder} is a folder of the system"
    if folder.parent == PurePosixPath("/home"):
        return f"{folder} is a home directory"
    if real and of_system(real):
        return f"{folder} leads to {real}, a folder of the system"
    if real and real == home:
        return f"{folder} is your home directory"
    return ""
