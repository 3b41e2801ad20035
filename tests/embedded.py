"""Inspect a running embedded hypervisor."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarm.embedded import Embedded

__all__ = ["first_process"]


def first_process(embedded: Embedded) -> int:
    """Return the ID of the broker's process: the first process in the namespaces, which end with it."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(embedded.broker))
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[0])
