"""Check the folders of a host on its hypervisor: its share, and that of its disk."""

from __future__ import annotations

import contextlib
import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.hypervisor.domain import Domain
from swarm.hypervisor.storage import find_pool
from swarm.hypervisor.uri import session
from swarm.text import amount, quote
from swarm.vm.answer import QEMU_USERS, Above, User, searchable
from swarm.vm.desired import domain_uuid
from swarm.vm.finding import Finding
from swarm.vm.folders import pool_problem
from swarm.vm.remote import machine as name_of
from swarm.vm.share import open_to_others, share_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.hypervisor.connection import Libvirt
    from swarm.inventory import Host
    from swarm.vm.remote import Found

__all__ = ["SPACE", "disks", "remote", "share"]

# Free bytes that a build and a new VM need: a build uses 4 GiB, and OpenClaw's installation grows an overlay to 2 GiB.
SPACE = 6 << 30


def remote(uri: str, machine: Found) -> Iterator[Finding]:
    """Say what of a remote hypervisor's machine could not be checked."""
    where = name_of(uri)
    if machine.answer is None:
        yield Finding(
            "warning",
            f"{uri}: shares, folders and free space on {where}, and its addresses, were not checked: {machine.problem}",
            f"let ssh log in without a question, and get a shell: ssh {where} true"
            if machine.asked
            else None,
        )
    elif not machine.answer.addresses:
        yield Finding(
            "warning",
            f"{uri}: the addresses of {where} are not known, so guests may reach its services on a public one",
            "close them by a firewall on the hypervisor",
        )


def share(host: Host, connection: Libvirt | None, machine: Found | None = None) -> Iterator[Finding]:
    """Check the shared folder."""
    shared = host.vm.virtiofs
    if shared is None:
        return
    where = "this machine" if machine is None or connection is None else name_of(connection.uri)
    if problem := share_problem(host, connection, machine):
        make = quote("mkdir", "-p", shared.source)
        yield Finding(
            "failure", f"{host.name}: the share {problem}", f"on {where}: {make}" if machine else make
        )
    elif open_to_others(host, connection, machine):
        yield Finding(
            "warning",
            f"{host.name}: other users of {where} can enter {shared.source}, where the guest can put programs "
            "that run as root for whoever starts them",
            "share a folder below one that only you can enter (chmod 700)",
        )


def disks(host: Host, connection: Libvirt, machine: Found | None = None) -> Iterator[Finding]:
    """Check the folder of the disk: whether it may become a pool, who can search it, and its space elsewhere."""
    folder = host.vm.disk_path.parent
    new = Domain.find_by_uuid(connection, domain_uuid(host)) is None
    if machine and new and find_pool(connection, folder) is None:
        problem = pool_problem(folder, connection, machine)
        yield from [Finding("failure", f"{host.name}: {problem[0]}", problem[1])] if problem else ()
    yield from _searchable(host, connection, machine)
    entry = machine.entry(folder) if machine else None
    if entry and entry.free is not None and entry.free < SPACE:
        yield Finding(
            "failure",
            f"{host.name}: {folder} on {name_of(connection.uri)}: {amount(entry.free)} free, and swarm needs "
            f"{amount(SPACE)}",
            "free some space there (./inv images --prune removes unused images), or choose another vm.disk_path",
        )


def _searchable(host: Host, connection: Libvirt, machine: Found | None) -> Iterator[Finding]:
    """Check that the user of the system's QEMU can search every folder above the disk."""
    if connection.embedded or session(connection.uri):
        return
    if machine:
        entry = machine.entry(host.vm.disk_path.parent)
        above, users = (entry.above if entry else ()), (machine.answer.users if machine.answer else ())
    else:
        above, users = _above(Path(host.vm.disk_path).parent), _users()
    for folder in above:
        if not searchable(folder, users):
            where = f" on {name_of(connection.uri)}" if machine else ""
            yield Finding(
                "failure",
                f"{host.name}: QEMU's user cannot search {folder.path}{where}, which is above {host.vm.disk_path}",
                f"sudo chmod o+x {quote(folder.path)}{where}",
            )
            return


def _above(folder: Path) -> tuple[Above, ...]:
    found = []
    with contextlib.suppress(OSError):  # a folder does not exist, or is in one that the user cannot search
        for path in (*reversed(folder.parents), folder):
            state = path.stat()
            found.append(Above(str(path), state.st_mode, state.st_uid, state.st_gid))
    return tuple(found)


def _users() -> tuple[User, ...]:
    found = []
    for name in QEMU_USERS:
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            found.append(User(user.pw_uid, frozenset(os.getgrouplist(name, user.pw_gid))))
    return tuple(found)
