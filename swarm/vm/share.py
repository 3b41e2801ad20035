"""The folder that a VM shares: what is wrong with it, and making one that is swarm's own."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from swarm.files import private_dir
from swarm.inventory.shares import of_system, own_share
from swarm.paths import shares_dir
from swarm.vm.remote import machine as name_of

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.hypervisor.connection import Libvirt
    from swarm.inventory import Host
    from swarm.vm.remote import Found

__all__ = ["make_share", "open_to_others", "share_problem"]

_MODE = 0o755  # the guest's users read it; on this machine, only its owner can enter the folder above


def share_problem(host: Host, connection: Libvirt | None, machine: Found | None = None) -> str | None:
    """Return what is wrong with the shared folder, or None.

    Without a `connection`, the hypervisor is this machine. `machine` is what a remote one says of the folder.
    """
    share = host.vm.virtiofs
    if share is None:
        return None
    if connection is not None and not connection.local:
        return _problem_there(share.source, name_of(connection.uri), machine)
    try:
        return _problem_here(share.source)
    except OSError as error:
        return f"{share.source} cannot be reached ({error.strerror})"


def _problem_here(source: Path) -> str | None:
    if not source.exists():
        return None if own_share(source) else f"{source} does not exist"
    if not source.is_dir():
        return f"{source} is not a folder"
    return None if os.access(source, os.R_OK | os.X_OK) else f"{source} is not readable"


def _problem_there(source: Path, where: str, machine: Found | None) -> str | None:
    entry = machine.entry(source) if machine else None
    if entry is None:
        return None
    if entry.kind != "folder":
        wrong = "does not exist" if entry.kind == "missing" else "is not a folder"
        return f"{source} {wrong} on {where}"
    if of_system(entry.real):
        return f"{source} leads to {entry.real} on {where}, a folder of the system"
    return None


def open_to_others(host: Host, connection: Libvirt | None, machine: Found | None = None) -> bool:
    """Whether other users of the hypervisor's machine can enter the shared folder."""
    share = host.vm.virtiofs
    if share is None:
        return False
    if machine:
        entry = machine.entry(share.source)
        # Where a link leads, the folders above are not known.
        found = entry.above if entry and entry.real == str(share.source) else ()
        return bool(found) and all(folder.mode & stat.S_IXOTH for folder in found)
    if not (connection is None or connection.local) or not share.source.exists():
        return False
    real = share.source.resolve()
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (real, *real.parents))


def make_share(host: Host, connection: Libvirt) -> None:
    """Make the shared folder if it is missing and swarm's own. Raise OSError."""
    share = host.vm.virtiofs
    if share is None or not connection.local or not own_share(share.source) or share.source.exists():
        return
    private_dir(shares_dir())
    private_dir(share.source.parent)
    share.source.mkdir(exist_ok=True)  # of two hosts side by side with one share, the other may have made it
    share.source.chmod(_MODE)
