"""The folder that a VM shares: what is wrong with it, and making one that is swarm's own."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from swarm.files import private_dir
from swarm.inventory.shares import own_share
from swarm.paths import shares_dir

if TYPE_CHECKING:
    from swarm.hypervisor.connection import Libvirt
    from swarm.inventory import Host

__all__ = ["make_share", "open_to_others", "share_problem"]

_MODE = 0o755  # the guest's users read it; on this machine, only its owner can enter the folder above


def share_problem(host: Host, connection: Libvirt | None) -> str | None:
    """Return what is wrong with the shared folder, or None. A folder on another machine is not checked.

    Without a `connection`, the hypervisor is this machine.
    """
    share = host.vm.virtiofs
    if share is None or not (connection is None or connection.local):
        return None
    if not share.source.exists():
        return None if own_share(share.source) else f"{share.source} does not exist"
    if not share.source.is_dir():
        return f"{share.source} is not a folder"
    if not os.access(share.source, os.R_OK | os.X_OK):
        return f"{share.source} is not readable"
    return None


def open_to_others(host: Host, connection: Libvirt | None) -> bool:
    """Whether other users of this machine can enter the shared folder."""
    share = host.vm.virtiofs
    if share is None or not (connection is None or connection.local) or not share.source.exists():
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
    share.source.mkdir()
    share.source.chmod(_MODE)
