"""Detect when the other end of a network interface stops responding. Standard library only, since it runs as root.

Debian 12's pasta can loop forever in its connection table after hundreds of connections within seconds. It then uses
a whole CPU and forwards no traffic. A working pasta always answers ARP requests for its own address.
"""

from __future__ import annotations

import socket
import time

__all__ = ["answers", "wait_for_silence"]

_ARP = 0x0806  # the EtherType, https://www.iana.org/assignments/ieee-802-numbers
_EVERY = 2.0  # seconds between requests
_PATIENCE = 4  # consecutive unanswered requests; a busy machine may miss one


def answers(interface: str, address: str, limit: float) -> bool | None:
    """Return True if an ARP request for `address` is answered within `limit` seconds, otherwise False.

    Return None if the `interface` does not exist.
    """
    deadline = time.monotonic() + limit
    wanted = socket.inet_aton(address)
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ARP)) as link:
            link.bind((interface, _ARP))
            own = link.getsockname()[4]
            # RFC 826: Ethernet, IPv4, the lengths of their addresses, a request, the sender (without an address,
            # RFC 5227) and the target.
            request = b"\0\1\x08\0\x06\x04\0\1" + own + bytes(4) + bytes(6) + wanted
            link.send(b"\xff" * 6 + own + _ARP.to_bytes(2, "big") + request)
            while (left := deadline - time.monotonic()) > 0:
                link.settimeout(left)
                packet = link.recv(128)[14:]
                if packet[6:8] == b"\0\2" and packet[14:18] == wanted:
                    return True
    except TimeoutError:
        return False
    except OSError:
        return None
    return False


def wait_for_silence(interface: str, address: str) -> None:
    """Block until `address` on `interface` has stopped answering."""
    silent = 0
    while silent < _PATIENCE:
        answered = answers(interface, address, _EVERY)
        silent = 0 if answered else silent + (answered is False)
        if answered is not False:
            time.sleep(_EVERY)
