"""`dial.py HOST PORT`: connect, and give OpenSSH, which listens on our standard output, the socket (ProxyCommand with ProxyUseFdpass).

OpenSSH itself switches TCP_NODELAY on only after the login. Until then two small packets in a row, as in every key exchange, wait
for the other side's acknowledgement, which it may delay by 40 ms. The time that this program starts in counts just as much, so it
takes the interpreter's own socket module, without the part of the standard library that is made from it: 7 ms instead of 13.
"""

from __future__ import annotations

import _socket
import sys

_LIMIT = 10.0  # seconds; the ConnectTimeout of ssh_config counts only for connections that ssh makes itself


def connect(host: str, port: str) -> _socket.socket:
    """Return a connection to the first of the host's addresses that answers. Raise OSError if none does."""
    error: OSError | None = None
    # Given a str, getaddrinfo() loads the codec for international names, which takes longer than all else here.
    for family, kind, protocol, _, address in _socket.getaddrinfo(
        host.encode(), port, 0, _socket.SOCK_STREAM
    ):
        made = _socket.socket(family, kind, protocol)
        try:
            made.settimeout(_LIMIT)
            made.connect(address)
            made.settimeout(None)
            made.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        except OSError as failed:
            made.close()
            error = failed
        else:
            return made
    raise error or OSError(f"{host} has no address")


def main(host: str, port: str) -> int:
    """Do it, and return the exit code: 1 with one line on standard error if nobody answers."""
    try:
        made = connect(host, port)
    except OSError as error:
        sys.stderr.write(f"{host}:{port}: {error.strerror or error}\n")
        return 1
    descriptor = made.fileno().to_bytes(4, sys.byteorder)  # a C int, as SCM_RIGHTS wants it
    _socket.socket(fileno=1).sendmsg([b"\0"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptor)])
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
