"""Whether the other end of a network card still answers; standard library only, since it runs as root beside libvirtd.

The pasta of Debian 12 can run in circles for ever in its table of connections, after hundreds of them within
seconds. It then takes all of a processor and nothing from its guests. That it answers ARP for its own address
is the least that it does while it lives, and needs nobody else.
"""

from __future__ import annotations

import socket
import time

__all__ = ["answers", "wait_for_silence"]

_ARP = 0x0806  # the EtherType, https://www.iana.org/assignments/ieee-802-numbers
_EVERY = 2.0  # seconds between two questions
_PATIENCE = 4  # unanswered questions in a row; a busy machine may be late for one


def answers(card: str, address: str, limit: float) -> bool | None:
    """Return whether an ARP request for `address` is answered within `limit` seconds, None without the `card`."""
    deadline = time.monotonic() + limit
    wanted = socket.inet_aton(address)
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ARP)) as link:
            link.bind((card, _ARP))
            own = link.getsockname()[4]
            # RFC 826: Ethernet, IPv4, the lengths of their addresses, a request; who asks (without an
            # address, RFC 5227), and for whom.
            question = b"\0\1\x08\0\x06\x04\0\1" + own + bytes(4) + bytes(6) + wanted
            link.send(b"\xff" * 6 + own + _ARP.to_bytes(2, "big") + question)
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


def wait_for_silence(card: str, address: str) -> None:
    """Return when nobody has answered for `address` over `card` for so long that nobody will."""
    silent = 0
    while silent < _PATIENCE:
        answered = answers(card, address, _EVERY)
        silent = 0 if answered else silent + (answered is False)
        if answered is not False:
            time.sleep(_EVERY)
