"""The HTTP side of the receiver: a bounded number of threads, each with limits on what one client may take."""

from __future__ import annotations

import contextlib
import hmac
import io
import ipaddress
import socket
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import msgspec

from swarm.agentmon.envelope import LIMITS, EnvelopeError, parse
from swarm.agentmon.envelope import Limits as BodyLimits
from swarm.text import visible

if TYPE_CHECKING:
    from swarm.agentmon.envelope import Event

__all__ = ["PATH", "Limits", "Server"]

PATH = "/v1/events"
_REASON = 2000  # characters of a reason that a client is told
# Seconds to read on after a refusal. A socket that is closed with unread bytes resets the connection, and the client
# may then never see the answer.
_LINGER = 2.0


@dataclass(frozen=True)
class Limits:
    """How much a receiver takes at once. Times are in seconds.

    `request` is for one request from its first line to its last byte, `idle` for a kept connection between two
    requests, and `stored` for the reader.
    """

    body: BodyLimits = LIMITS
    threads: int = 32
    request: float = 10.0
    idle: float = 30.0
    stored: float = 15.0


class Sink(Protocol):
    """What the server hands requests to."""

    limits: Limits
    token: str
    closing: threading.Event

    def store(self, client: str, events: list[Event]) -> bool:
        """Return whether the events were stored."""

    def note(self, client: str, status: int, problem: str) -> None:
        """Take note of a refused request."""


class Server(ThreadingHTTPServer):
    """One thread for each connection, up to a limit. Beyond it, a client is told to come back."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(self, bind: str, port: int, receiver: Sink) -> None:
        self.receiver = receiver
        self._free = threading.BoundedSemaphore(receiver.limits.threads)
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(bind).version == 6:  # noqa: PLR2004 - IPv6
                self.address_family = socket.AF_INET6
        super().__init__((bind, port), _Handler)

    def server_bind(self) -> None:
        """Bind, without the look-up of this machine's name that HTTPServer makes."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's types
        """Start a thread, or answer 503 at once if all are busy."""
        if not self._free.acquire(blocking=False):
            with contextlib.suppress(OSError):
                request.settimeout(0)
                request.send(
                    b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
            self.shutdown_request(request)
            return
        with self._guard:
            self._open.add(request)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as above
        """Serve one connection, and free its place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._guard:
                self._open.discard(request)
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as above
        """Ignore a connection that broke. What a client does wrong is no error of the receiver."""

    def end(self) -> None:
        """Close the listening socket and every connection, after a moment for the last answers."""
        self.server_close()
        until = time.monotonic() + 0.5
        while self._busy() and time.monotonic() < until:
            time.sleep(0.01)
        with self._guard:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _busy(self) -> bool:
        with self._guard:
            return bool(self._open)


class _Timed(io.RawIOBase):
    """The reading half of a socket with one deadline for all that is read, so that dripping bytes does not help."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self.until = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        return self._socket.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "swarm"
    sys_version = ""
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        super().setup()
        self._raw = _Timed(self.connection)
        self.rfile = io.BufferedReader(self._raw)
        self._receiver = self.server.receiver
        self._limits = self._receiver.limits
        self._unread = False

    def handle_one_request(self) -> None:
        """Wait for a request for as long as a connection may idle, then serve it."""
        self._raw.until = time.monotonic() + self._limits.idle
        if self._receiver.closing.is_set():
            self.close_connection = True
            return
        super().handle_one_request()

    def parse_request(self) -> bool:
        """Give the rest of the request its own deadline: its first line is there."""
        self._raw.until = time.monotonic() + self._limits.request
        return super().parse_request()

    def handle_expect_100(self) -> bool:
        """Ask for the body only if it will be taken."""
        return self._size() is not None and super().handle_expect_100()

    def finish(self) -> None:
        """End the connection. If a body was refused unread, let the client see why."""
        super().finish()
        if not self._unread:
            return
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self._raw.until = time.monotonic() + _LINGER
            while self._raw.read(1 << 16):
                pass

    def log_message(self, *_: object) -> None:
        """Write nothing: the reader is told."""

    def do_POST(self) -> None:
        """Take events."""
        if not self._allowed() or (size := self._size()) is None:
            return
        try:
            body = self.rfile.read(size)
        except TimeoutError:
            self._refuse(408, f"the request took more than {self._limits.request:.0f} s")
            return
        if len(body) < size:  # the client is gone
            self.close_connection = True
            return
        try:
            events = parse(body, self.headers.get("Content-Type", ""), self._limits.body)
        except EnvelopeError as error:
            self._refuse(413 if error.too_large else 400, error.message, close=False)
            return
        if self._receiver.store(self.client_address[0], events):
            self._answer(202, {"accepted": len(events)})
        else:
            self._refuse(503, "the events could not be stored", noted=False)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is not HTTP in the way in which every refusal is answered."""
        self.request_version = (
            self.protocol_version
        )  # of HTTP/0.9, which is the guess, answers have no status
        self._refuse(int(code), visible(message or explain or "the request is not valid", lines=False))

    def _other(self) -> None:
        if self._found():
            self._refuse(405, f"{self.command[:20]} is not possible here: use POST")

    do_GET = do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _other  # noqa: N815 - http.server's names

    def _found(self) -> bool:
        """Return whether the URL is that of events. Answer if it is not."""
        try:
            path = urlsplit(self.path).path
        except ValueError:
            self._refuse(400, "the URL is invalid")
            return False
        if path != PATH:
            self._refuse(404, f"nothing here: events go to POST {PATH}")
        return path == PATH

    def _allowed(self) -> bool:
        if not self._found():
            return False
        sent, wanted = self.headers.get("Authorization", ""), f"Bearer {self._receiver.token}"
        if self._receiver.token and not hmac.compare_digest(sent.encode("utf-8", "replace"), wanted.encode()):
            self._refuse(401, "the token is missing or wrong")
            return False
        return True

    def _size(self) -> int | None:
        """Return the size of the body, or None after answering that it is not acceptable."""
        sizes, most = self.headers.get_all("Content-Length", []), self._limits.body.size
        if "Transfer-Encoding" in self.headers or not sizes:
            self._refuse(411, "the header Content-Length is missing")
        elif len(set(sizes)) > 1 or not (sizes[0].isascii() and sizes[0].isdigit()):
            self._refuse(400, "the header Content-Length is invalid")
        elif len(sizes[0]) > len(str(most)) or int(sizes[0]) > most:
            self._refuse(413, f"the body is larger than {most} bytes")
        else:
            return int(sizes[0])
        return None

    def _refuse(self, status: int, problem: str, *, close: bool = True, noted: bool = True) -> None:
        """Answer with the reason. `close` is for requests whose body has not been read."""
        if noted:
            self._receiver.note(self.client_address[0], status, problem)
        self.close_connection, self._unread = self.close_connection or close, close
        self._answer(status, {"error": problem[:_REASON]})

    def _answer(self, status: int, data: dict[str, Any]) -> None:
        body = msgspec.json.encode(data) + b"\n"
        self.connection.settimeout(self._limits.request)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 401:  # noqa: PLR2004 - RFC 9110 requires the header with this status
            self.send_header("WWW-Authenticate", "Bearer")
        if status == 503:  # noqa: PLR2004 - Service Unavailable
            self.send_header("Retry-After", "1")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
