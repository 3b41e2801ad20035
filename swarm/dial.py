"""`dial.py HOST PORT`: connect, and give OpenSSH, which listens on our standard output, the socket (ProxyCommand with ProxyUseFdpass).

OpenSSH itself switches TCP_NODELAY on only after the login. Until then two small packets in a row, as in every key exchange, wait
for the other side's acknowledgement, which it may delay by 40 ms. Standard library only, so that it starts in ten milliseconds.
"""

from __future__ import annotations

import os
import socket
import sys

_LIMIT = 10.0  # seconds; the ConnectTimeout of ssh_config counts only for connections that ssh makes itself


def main(host: str, port: str) -> int:
    """Do it, and return the exit code: 1 with one line on standard error if nobody answers."""
    try:
        made = socket.create_connection((host, int(port)), timeout=_LIMIT)
    except OSError as error:
        sys.stderr.write(f"{host}:{port}: {error.strerror or error}\n")
        return 1
    made.settimeout(None)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with socket.socket(fileno=os.dup(1)) as ssh:
        socket.send_fds(ssh, [b"\0"], [made.fileno()])
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
