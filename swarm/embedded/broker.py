"""A broker that connects TCP sockets inside the embedded hypervisor's network and passes them to the caller.

The guests' addresses exist only in a network namespace. A socket stays in the namespace in which it was created,
even when another process uses it. The server runs inside the namespace. It connects, and passes the open socket to
the client over a Unix socket (SCM_RIGHTS). No data is copied, no port is opened, and only the owner of the Unix
socket can use it.

Standard library only: OpenSSH runs this file as a ProxyCommand (with ProxyUseFdpass) for each connection, so it must
start fast.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Closed", "ask", "connect", "serve"]

_LONGEST = 4096  # bytes in a request or a response; each is a short line of JSON
_PATIENCE = 10.0  # seconds to wait for a response; an idle machine takes a millisecond


class Closed(OSError):
    """The broker does not respond because the embedded hypervisor is not running."""


def serve(path: str, owner: tuple[int, int], stop: Callable[[], None]) -> None:
    """Listen on the Unix socket `path`, which only `owner` (uid, gid) can use. Return at once; threads serve requests.

    A request is a line of JSON: {"connect": [host, port, seconds]}, {"ping": true} or {"stop": true}, which
    calls `stop`.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    os.umask(0o177)
    listener.bind(path)
    os.umask(0o022)
    os.chown(path, *owner)
    listener.listen(64)

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            Thread(target=_answer, args=(client, stop), daemon=True).start()

    Thread(target=accept, daemon=True).start()


def _answer(client: socket.socket, stop: Callable[[], None]) -> None:
    with client, contextlib.suppress(OSError, ValueError):
        request = json.loads(client.recv(_LONGEST))
        if "stop" in request:
            client.sendall(b'{"ok": true}')
            stop()
        elif "ping" in request:
            client.sendall(b'{"ok": true}')
        else:
            host, port, limit = request["connect"]
            try:
                with socket.create_connection((host, port), timeout=limit) as inner:
                    inner.setblocking(True)  # noqa: FBT003 - the standard library's signature
                    socket.send_fds(client, [b'{"ok": true}'], [inner.fileno()])
            except OSError as error:
                client.sendall(
                    json.dumps({"errno": error.errno, "error": error.strerror or "timed out"}).encode()
                )


def ask(path: Path | str, request: dict[str, Any], limit: float = _PATIENCE) -> list[int]:
    """Send a request to the broker at `path` and return the file descriptors that it passes back.

    Raise Closed if the broker does not respond within `limit` seconds. Raise the OSError that occurred inside.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(limit)
        try:
            client.connect(str(path))
            client.sendall(json.dumps(request).encode())
            answer, descriptors, _, _ = socket.recv_fds(client, _LONGEST, 1)
        except OSError as error:
            raise Closed(error.errno, f"no answer at {path}") from None
    if not answer:
        raise Closed(0, f"no answer at {path}")
    data = json.loads(answer)
    if "ok" not in data:
        if data["errno"] is None:
            raise TimeoutError(data["error"])
        raise OSError(data["errno"], data["error"])
    return descriptors


def connect(path: Path | str, host: str, port: int, limit: float) -> socket.socket:
    """Return a TCP connection to `host`:`port` inside the namespace, or raise Closed or OSError.

    Connecting may take at most `limit` seconds.
    """
    (descriptor,) = ask(path, {"connect": [host, port, limit]}, limit + _PATIENCE)
    made = socket.socket(fileno=descriptor)
    # Without it, each small write may wait 40 ms for a delayed ACK.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def _main() -> int:
    """Run `broker.py SOCKET HOST PORT`: connect, and pass the socket to OpenSSH over standard output."""
    _, path, host, port = sys.argv
    try:
        inner = connect(path, host, int(port), 10.0)
    except OSError as error:
        sys.stderr.write(f"broker: {host}:{port}: {error.strerror or error}\n")
        return 1
    except KeyboardInterrupt:  # Ctrl-C at the terminal reaches this program too
        return 1
    with socket.socket(fileno=os.dup(1)) as ssh:
        socket.send_fds(ssh, [b"\0"], [inner.fileno()])
    return 0


if __name__ == "__main__":
    sys.exit(_main())
