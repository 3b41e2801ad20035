"""A machine that asks for a DHCP lease: a network interface on a bridge of the embedded hypervisor, without a VM.

The module is also the program that does so, inside the hypervisor's network namespace: BRIDGE MAC ADDRESS. It asks for
ADDRESS, and prints the address that it got.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.embedded import first_process

if TYPE_CHECKING:
    from swarm.embedded import Embedded

__all__ = ["lease"]

_CARD, _PORT = "lessee0", "lessee1"
_ID = b"swrm"
_COOKIE = b"\x63\x82\x53\x63"  # RFC 2131, 3
_TYPE, _ASKED, _SERVER, _END = 53, 50, 54, 255  # options: RFC 2132
_DISCOVER, _OFFER, _REQUEST, _ACK = 1, 2, 3, 5
_AGAIN, _WITHIN = 0.5, 30.0  # seconds until a question is repeated, and until it is given up


def lease(embedded: Embedded, bridge: str, mac: str, address: str) -> str:
    """Get a lease for `mac` from the DHCP server at `bridge`, `address` if it is free. Return its address."""
    enter = ["nsenter", f"--net=/proc/{first_process(embedded)}/ns/net"]
    program = [sys.executable, "-m", "tests.integration.dhcp", bridge, mac, address]
    root = Path(__file__).parents[2]
    done = subprocess.run([*enter, *program], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _main(bridge: str, mac: str, address: str) -> None:
    commands = (
        f"link add {_CARD} address {mac} type veth peer name {_PORT}",
        f"link set {_PORT} master {bridge} up",
        f"link set {_CARD} up",
    )
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True)
    try:
        sys.stdout.write(_leased(bytes.fromhex(mac.replace(":", "")), address))
    finally:
        subprocess.run(["ip", "link", "delete", _CARD], check=True)


def _leased(mac: bytes, address: str) -> str:
    asked = {_ASKED: socket.inet_aton(address)}
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as card:
        card.bind((_CARD, 0))
        card.settimeout(_AGAIN)
        offered, options = _answer(card, _frame(mac, _DISCOVER, asked), _OFFER)
        again = {_ASKED: socket.inet_aton(offered), _SERVER: options[_SERVER]}
        return _answer(card, _frame(mac, _REQUEST, again), _ACK)[0]


def _frame(mac: bytes, kind: int, options: dict[int, bytes]) -> bytes:
    """Return a broadcast: Ethernet, IP, UDP and BOOTP (RFC 951) around the options."""
    text = b"".join(
        bytes((key, len(value))) + value for key, value in ({_TYPE: bytes((kind,))} | options).items()
    )
    # The flag 0x8000 asks for answers to everybody, since this interface has no address yet.
    body = (
        struct.pack("!4B4s2H16s16s192x", 1, 1, 6, 0, _ID, 0, 0x8000, b"", mac)
        + _COOKIE
        + text
        + bytes((_END,))
    )
    udp = struct.pack("!4H", 68, 67, 8 + len(body), 0)
    head = struct.pack("!2B3H2BH4s4s", 0x45, 0, 28 + len(body), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:]
    return b"\xff" * 6 + mac + b"\x08\x00" + head + udp + body


def _answer(card: socket.socket, frame: bytes, kind: int) -> tuple[str, dict[int, bytes]]:
    """Return the address and the options of the server's answer. A frame may get lost while the bridge starts."""
    limit = time.monotonic() + _WITHIN
    while time.monotonic() < limit:
        card.send(frame)
        with contextlib.suppress(TimeoutError):
            while True:
                body = card.recv(2048)[42:]
                if body[:1] == b"\x02" and body[4:8] == _ID:
                    options = _options(body[240:])
                    if options[_TYPE] == bytes((kind,)):
                        return socket.inet_ntoa(body[16:20]), options
    raise TimeoutError("no answer from the DHCP server")


def _options(text: bytes) -> dict[int, bytes]:
    found = dict[int, bytes]()
    while text and text[0] != _END:
        found[text[0]], text = text[2 : 2 + text[1]], text[2 + text[1] :]
    return found


if __name__ == "__main__":
    _main(*sys.argv[1:])
