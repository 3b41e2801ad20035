"""The serial console's log, which QEMU writes beside the disk."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from swarm.errors import HypervisorError
from swarm.hypervisor.domain import Domain
from swarm.hypervisor.storage import find_pool
from swarm.vm import desired

if TYPE_CHECKING:
    from swarm.hypervisor.connection import Libvirt
    from swarm.inventory import Host

__all__ = ["clean", "console_log"]

_CONTROL = re.compile(r"\x1b(\[[0-9;?=]*[A-Za-z]|[()][A-Z0-9]|[=>c78DEHM])")


def clean(raw: bytes) -> list[str]:
    """Return a serial log's lines without a terminal's control sequences and without empty lines."""
    text = _CONTROL.sub("", raw.decode(errors="replace")).replace("\r", "\n")
    printable = ("".join(sign for sign in line if sign.isprintable()).strip() for line in text.split("\n"))
    return [line for line in printable if line]


def console_log(host: Host, connection: Libvirt, last: int | None = None) -> list[str]:
    """Return the serial console's lines since the VM's start, from at most its `last` bytes.

    The log is where the domain was made to write it. Raise HypervisorError if there is none.
    """
    path = _path(host, connection)
    pool = find_pool(connection, path.parent)
    if pool is None:
        raise HypervisorError(
            f"{host.name} has no console log yet", f"make the VM: ./inv provision --host {host.name}"
        )
    return clean(pool.read(path.name, last))


def _path(host: Host, connection: Libvirt) -> PurePosixPath:
    """Return where the domain writes its log, or without a domain, where one would."""
    domain = Domain.find_by_uuid(connection, desired.domain_uuid(host))
    log = ET.fromstring(domain.xml()).find("./devices/serial/log") if domain else None
    given = log.get("file") if log is not None else None
    return PurePosixPath(given) if given else host.vm.disk_path.parent / desired.console_volume(host)
