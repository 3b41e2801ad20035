"""A publisher of one image over real HTTP on loopback, which misbehaves on request."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

from swarm.images.catalogue import Entry

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

NAME = "image.qcow2"


@dataclass(frozen=True)
class Answer:
    """The response to one request for the image. The default is that of a well-behaved server."""

    status: int = 0
    stop_after: int | None = None  # bytes of the body before the connection breaks
    ranges: bool = True
    length: bool = True
    stated: str = ""  # a length in place of the right one
    off_by: int = 0  # bytes by which the range starts later than requested
    stall: float = 0  # seconds of silence in the middle of the body
    drip: float = 0  # seconds between blocks of 4 KiB
    location: str = ""


class Publisher(ThreadingHTTPServer):
    """Serves `content` as NAME, and its checksum as SHA256SUMS. Each request consumes one of `answers`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, content: bytes, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.scheme = "https" if context else "http"
        self.content = content
        self.stated: list[
            bytes
        ] = []  # contents to state the checksum of, one per request, instead of `content`
        self.tag: str | None = None  # None: derived from the content; "": not sent
        self.changed = "Sat, 01 Jan 2022 00:00:00 GMT"
        self.answers: deque[Answer] = deque()
        self.checksum_answers: deque[Answer] = deque()
        self.asked: list[dict[str, str]] = []  # the headers of each request for the image
        self.sent = 0  # bytes of bodies of the image

    @property
    def etag(self) -> str:
        """The strong ETag, or the one that a test has set."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:16]}"' if self.tag is None else self.tag

    def entry(self, name: str = "image") -> Entry:
        """Return a catalog entry with the URLs of this server."""
        base = f"{self.scheme}://127.0.0.1:{self.server_address[1]}"
        return Entry(name, "published", "a test", f"{base}/{NAME}", f"{base}/SHA256SUMS", "sha256")

    @contextmanager
    def running(self) -> Iterator[Publisher]:
        """Serve while the block runs."""
        thread = Thread(target=self.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()

    def handle_error(self, *_: object) -> None:
        """Ignore clients that disconnect."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Publisher

    def do_GET(self) -> None:
        if self.path == "/SHA256SUMS":
            self._checksums()
        elif self.path == f"/{NAME}":
            self._image()
        else:
            self._plain(404)

    def _checksums(self) -> None:
        answer = self.server.checksum_answers.popleft() if self.server.checksum_answers else Answer()
        if answer.status:
            self._plain(answer.status, answer.location)
            return
        content = self.server.stated.pop(0) if self.server.stated else self.server.content
        body = f"{hashlib.sha256(content).hexdigest()} *{NAME}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _image(self) -> None:
        publisher, asked = self.server, dict(self.headers.items())
        publisher.asked.append(asked)
        answer = publisher.answers.popleft() if publisher.answers else Answer()
        if answer.status:
            self._plain(answer.status, answer.location)
            return
        content, start = publisher.content, 0
        wanted = asked.get("Range", "")
        if wanted and answer.ranges and asked.get("If-Range") in {publisher.etag, publisher.changed}:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start += answer.off_by
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        for header, value in (("ETag", publisher.etag), ("Last-Modified", publisher.changed)):
            if value:
                self.send_header(header, value)
        if answer.length:
            self.send_header("Content-Length", answer.stated or str(len(content) - start))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        self._body(content[start:], answer)

    def _body(self, body: bytes, answer: Answer) -> None:
        whole = body if answer.stop_after is None else body[: answer.stop_after]
        middle = len(whole) // 2 if answer.stall else 0
        self._write(whole[:middle])
        time.sleep(answer.stall)
        if answer.drip:
            for at in range(0, len(whole), 4096):
                self._write(whole[at : at + 4096])
                time.sleep(answer.drip)
        else:
            self._write(whole[middle:])
        if len(whole) < len(body) or not answer.length or answer.stated:
            self.close_connection = True

    def _write(self, data: bytes) -> None:
        self.server.sent += len(data)  # before sending: the client may finish before the next line runs
        self.wfile.write(data)
        self.wfile.flush()

    def _plain(self, status: int, location: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        if location:
            self.send_header("Location", location)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the tests' output readable."""
