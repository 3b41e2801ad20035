"""An HTTP relay in front of a real LiteLLM that breaks single answers on request, as networks and bugs do."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import requests

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Relay", "Rule", "relaying"]

_TIMEOUT = 120  # seconds for the real answer


@dataclass
class Rule:
    """What happens to the next `times` requests whose method and path begin with `request`.

    The request is forwarded or not, then delayed by `delay` seconds. `status` and `body` replace the real answer;
    status 0 closes the connection without one.
    """

    request: str
    forward: bool = True
    delay: float = 0.0
    status: int | None = None
    body: bytes = b"{}"
    times: int = 1


@dataclass
class Relay:
    """A running relay. `seen` are the methods and paths of all requests, in their order."""

    target: str
    url: str = ""
    rules: list[Rule] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def count(self, request: str) -> int:
        """Return how many requests began with `request`, such as 'POST /model/new'."""
        return sum(each.startswith(request) for each in self.seen)

    def rule_for(self, request: str) -> Rule | None:
        """Return the rule for a request, and count it."""
        for rule in self.rules:
            if rule.times and request.startswith(rule.request):
                rule.times -= 1
                return rule
        return None


@contextmanager
def relaying(target: str) -> Iterator[Relay]:
    """Run a relay to `target` on a free port of loopback during the block."""
    relay = Relay(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            request = f"{self.command} {self.path}"
            relay.seen.append(request)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            rule = relay.rule_for(request)
            status, kind, data = 200, "application/json", b"{}"
            if rule is None or rule.forward:
                headers = {
                    "Authorization": self.headers.get("Authorization", ""),
                    "Content-Type": "application/json",
                }
                answer = requests.request(
                    self.command,
                    relay.target + self.path,
                    data=body or None,
                    headers=headers,
                    timeout=_TIMEOUT,
                )
                status, kind, data = (
                    answer.status_code,
                    answer.headers.get("Content-Type", kind),
                    answer.content,
                )
            if rule is not None:
                time.sleep(rule.delay)
                if rule.status == 0:
                    self.close_connection = True
                    self.connection.close()
                    return
                status, data = (rule.status, rule.body) if rule.status is not None else (status, data)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Say nothing: a client that hangs up is what tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    relay.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield relay
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
