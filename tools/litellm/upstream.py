"""A fake model provider that answers as OpenAI's API does, and records what it is asked."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from typing import Any

from tools.fake import Fake, JsonHandler

__all__ = ["Request", "Upstream"]

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


class Upstream(Fake):
    """The provider. Every answer has `status`, after `delay` seconds. `requests` are those since the last reset().

    It listens at `address`, which this computer need not have yet.
    """

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.reset()
        upstream = self

        class Handler(JsonHandler):
            def do_POST(self) -> None:  # noqa: N802 - http.server's name
                body = json.loads(self.body() or b"{}")
                headers = {name.lower(): value for name, value in self.headers.items()}
                upstream.requests.append(Request(self.path, headers, body))
                upstream._released.wait(upstream.delay)
                self.send_json(_answer(upstream.status, str(body.get("model"))), upstream.status)

        self._released = threading.Event()
        super().__init__(Handler, address)
        self.url += "/v1"

    def reset(self) -> None:
        """Answer at once and with success, and forget all requests."""
        self.status, self.delay = 200, 0.0
        self.requests: list[Request] = []

    def close(self) -> None:
        """Stop answering."""
        self._released.set()
        super().close()


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
