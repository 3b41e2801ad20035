"""A dead man's switch, which remembers how it was called."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Switch", "switch"]


class Switch(NamedTuple):
    """Its address, and the path and the body of each call."""

    url: str
    calls: list[tuple[str, str]]

    @property
    def paths(self) -> list[str]:
        """The paths of all calls."""
        return [path for path, _ in self.calls]


@contextmanager
def switch(status: int = 200) -> Iterator[Switch]:
    """Run a switch that answers with `status` during the block."""
    calls: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            calls.append((self.path, body))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Switch(f"http://127.0.0.1:{server.server_port}", calls)
        server.shutdown()
