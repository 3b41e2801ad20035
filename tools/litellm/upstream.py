"""A fake model provider that answers as OpenAI's API does, and records what it is asked."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Request", "Upstream"]

_IP_FREEBIND = 15  # of Linux; Python has no name for it yet
_ERRORS = {401: "Incorrect API key provided", 429: "Rate limit reached"}


@dataclass(frozen=True)
class Request:
    """One request. The names of headers are in lower case."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def key(self) -> str:
        """The API key that it came with."""
        return self.headers.get("authorization", "").removeprefix("Bearer ")


class Upstream:
    """The provider. Every answer has `status`, after `delay` seconds. `requests` are those since the last reset().

    It listens at `address`, which this computer need not have yet.
    """

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.reset()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers.get("content-length") or 0))
                body = json.loads(data or b"{}")
                headers = {name.lower(): value for name, value in self.headers.items()}
                upstream.requests.append(Request(self.path, headers, body))
                upstream._released.wait(upstream.delay)
                self._send(upstream.status, _answer(upstream.status, str(body.get("model"))))

            def _send(self, status: int, answer: dict[str, Any]) -> None:
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._released = threading.Event()
        self._server = ThreadingHTTPServer((address, 0), Handler, bind_and_activate=False)
        self._server.socket.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        self._server.server_bind()
        self._server.server_activate()
        self._server.daemon_threads = True
        self.url = f"http://{address}:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def reset(self) -> None:
        """Answer at once and with success, and forget all requests."""
        self.status, self.delay = 200, 0.0
        self.requests: list[Request] = []

    def close(self) -> None:
        """Stop answering."""
        self._released.set()
        self._server.shutdown()
        self._server.server_close()


def _answer(status: int, model: str) -> dict[str, Any]:
    if status != 200:  # noqa: PLR2004 - HTTP's "OK"
        message = _ERRORS.get(status, "The server had an error")
        return {"error": {"message": message, "type": "test", "code": str(status)}}
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    created = int(time.time())
    return {
        "id": "x", "object": "chat.completion", "created": created, "model": model, "choices": [choice], "usage": usage
    }  # fmt: skip
