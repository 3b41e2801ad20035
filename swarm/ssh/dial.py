"""`dial.py HOST PORT`: connect, and pass the socket to OpenSSH over standard output (ProxyCommand with ProxyUseFdpass).

OpenSSH itself sets TCP_NODELAY only after the login. Until then two small packets in a row, as in every key
exchange, wait for an acknowledgement that the other side may delay by 40 ms. The start-up time of this program
counts as well, so it uses the interpreter's built-in socket module: 7 ms instead of 13.
"""

from __future__ import annotations

import _socket
import sys
from posix import environ

# Seconds. ConnectTimeout of ssh_config applies only to connections that ssh makes itself. While a guest boots,
# swarm sets a shorter limit: a lost SYN is repeated after 1, 3, 7 and 15 s, so a new attempt is faster.
_LIMIT = float(environ.get(b"SWARM_DIAL_LIMIT", b"10"))


def connect(host: str, port: str) -> _socket.socket:
    """Return a connection to the first address of the host that answers. Raise OSError if none does."""
    error: OSError | None = None
    # Given a str, getaddrinfo() loads the codec for international names, which takes longer than all else
    # here.
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
    """Connect, and return the exit code: 1, with one line on standard error, if no address answers."""
    try:
        made = connect(host, port)
    except OSError as error:
        sys.stderr.write(f"{host}:{port}: {error.strerror or error}\n")
        return 1
    except KeyboardInterrupt:  # Ctrl-C at the terminal reaches this program too
        return 1
    descriptor = made.fileno().to_bytes(4, sys.byteorder)  # a C int, as SCM_RIGHTS wants it
    _socket.socket(fileno=1).sendmsg([b"\0"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptor)])
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
