"""A TCP proxy that breaks connections on request."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import threading
from typing import Literal, Self

__all__ = ["Proxy", "error_answer"]

_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time: close() sends a reset


class Proxy:
    """Passes TCP connections on to a server.

    After `up` bytes to the server, or `down` bytes from it, all connections break and new ones are refused. With
    `answer`, every request gets that answer instead, or with `only` each of them that begins with what this regular
    expression matches, and with `times` only so many. Each number in `cuts` is for one new connection: it breaks after
    so many bytes from the server, and the next connection is accepted. `how` it breaks: closed, reset, or silent.
    `flip` is the number of a byte to the server that is changed on its way, among all bytes of all connections.
    `accepted` counts the connections, and `passed` the bytes from the server.
    """

    def __init__(self, endpoint: str) -> None:
        host, _, port = endpoint.rpartition("/")[2].rpartition(":")
        self._server = (host, int(port))
        self.up: int | None = None
        self.down: int | None = None
        self.answer: bytes | None = None
        self.only = ""
        self.times: int | None = None
        self.flip: int | None = None
        self.cuts: list[int] = []
        self.how: Literal["closed", "reset", "silent"] = "closed"
        self.accepted = self.passed = 0
        self.broken = False
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def cut(self) -> None:
        """Break every connection."""
        with self._lock:
            self.broken = True
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
            self._open.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.accepted += 1
                if self.broken:
                    client.close()
                elif self.answer and not self.only:
                    threading.Thread(target=self._reply, args=(client,), daemon=True).start()
                else:
                    self._connect(client)

    def _reply(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            client.recv(1 << 16)
            client.sendall(self.answer or b"")

    def _connect(self, client: socket.socket) -> None:
        server = socket.create_connection(self._server)
        budget = self.cuts.pop(0) if self.cuts else None
        with self._lock:
            self._open += [client, server]
        threading.Thread(target=self._pump, args=(client, server, budget), daemon=True).start()

    def _pump(self, client: socket.socket, server: socket.socket, budget: int | None) -> None:
        sinks = {client: server, server: client}
        with contextlib.suppress(OSError, ValueError):  # cut() closes what select() waits for
            while sinks:
                for source in select.select(list(sinks), [], [])[0]:
                    data = source.recv(1 << 16)
                    if source is client:
                        if self._refuses(data):
                            self._refuse(client)
                            return
                        data = self._flipped(data)
                    self.passed += len(data) if source is server else 0
                    if not data:
                        sinks.pop(source).shutdown(socket.SHUT_WR)
                    elif source is server and budget is not None and len(data) >= budget:
                        client.sendall(data[:budget])
                        self._break(client, server)
                        return
                    elif not self._forward(data, sinks[source], "up" if source is client else "down"):
                        return
                    elif source is server and budget is not None:
                        budget -= len(data)

    def _refuses(self, data: bytes) -> bool:
        """Whether a request begins here that gets the answer. A client sends none before it has the last one's."""
        with self._lock:
            found = bool(self.answer and self.only and self.times != 0 and re.match(self.only.encode(), data))
            if found and self.times is not None:
                self.times -= 1
            return found

    def _refuse(self, client: socket.socket) -> None:
        """Send the answer. Read what the client still sends, because a reset would destroy the answer."""
        client.sendall(self.answer or b"")
        client.shutdown(socket.SHUT_WR)
        while client.recv(1 << 16):
            pass

    def _flipped(self, data: bytes) -> bytes:
        if self.flip is None:
            return data
        at, self.flip = self.flip, self.flip - len(data)
        if not 0 <= at < len(data):
            return data
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    def _forward(self, data: bytes, sink: socket.socket, counter: str) -> bool:
        left = getattr(self, counter)
        if left is not None:
            setattr(self, counter, left - len(data))
            if left < len(data):
                sink.sendall(data[:left])
                self.cut()
                return False
        sink.sendall(data)
        return True

    def _break(self, client: socket.socket, server: socket.socket) -> None:
        """Break one connection."""
        if self.how == "silent":
            return
        with self._lock:
            for each in (client, server):
                self._open.remove(each)
                if self.how == "reset":
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
                each.close()


def error_answer(status: str, code: str) -> bytes:
    """Return an S3 error as an HTTP answer."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>a test</Message></Error>".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
