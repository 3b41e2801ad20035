"""The serial console's log, which is beside the disk. A guest can write to it without an end."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from swarm.errors import HypervisorError
from swarm.hypervisor.domain import Domain
from swarm.hypervisor.storage import find_pool
from swarm.vm import desired

if TYPE_CHECKING:
    from swarm.hypervisor.connection import Libvirt
    from swarm.inventory import Host

__all__ = ["MOST", "Part", "clean", "console_log", "part"]

MOST = 4 << 20  # bytes of the log that are read at once, from its end; a boot writes 100 KiB

_CONTROL = re.compile(r"\x1b(\[[0-9;?=]*[A-Za-z]|[()][A-Z0-9]|[=>c78DEHM])")


def clean(raw: bytes) -> list[str]:
    """Return a serial log's lines without a terminal's control sequences and without empty lines."""
    text = _CONTROL.sub("", raw.decode(errors="replace")).replace("\r", "\n")
    printable = ("".join(sign for sign in line if sign.isprintable()).strip() for line in text.split("\n"))
    return [line for line in printable if line]


class Part(NamedTuple):
    """Lines of the log, and the number of the byte after the last of them."""

    lines: list[str]
    end: int


def console_log(host: Host, connection: Libvirt, last: int = MOST) -> list[str]:
    """Return the serial console's lines since the VM's start, from at most its `last` bytes.

    The log is where the domain was made to write it. Raise HypervisorError if there is none.
    """
    return clean(_tail(host, connection, last, 0)[0])


def part(host: Host, connection: Libvirt, after: int) -> Part:
    """Return the complete lines after the first `after` bytes, from at most MOST bytes. Raise as console_log()."""
    raw, end = _tail(host, connection, MOST, after)
    complete, _, rest = raw.rpartition(b"\n")
    if not complete and len(raw) >= MOST:  # a line that does not end
        complete, rest = raw, b""
    return Part(clean(complete), end - len(rest))


def _tail(host: Host, connection: Libvirt, most: int, after: int) -> tuple[bytes, int]:
    path = _path(host, connection)
    pool = find_pool(connection, path.parent)
    if pool is None:
        raise HypervisorError(
            f"{host.name} has no console log yet", f"make the VM: ./inv provision --host {host.name}"
        )
    return pool.tail(path.name, most, after)


def _path(host: Host, connection: Libvirt) -> PurePosixPath:
    """Return where the domain writes its log, or without a domain, where one would."""
    domain = Domain.find_by_uuid(connection, desired.domain_uuid(host))
    log = ET.fromstring(domain.xml()).find("./devices/serial/log") if domain else None
    given = log.get("file") if log is not None else None
    return PurePosixPath(given) if given else host.vm.disk_path.parent / desired.console_volume(host)
