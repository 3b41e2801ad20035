"""A fake model provider that speaks OpenAI's API: it answers, or asks for one tool call or a subagent, or fails."""

from __future__ import annotations

import json
from typing import Any

from tools.fake import Fake, JsonHandler

__all__ = ["FAILS", "SPAWN", "TOOL", "Provider"]

# Words of a message that ask for a tool call, for a subagent, and for an error without a retry.
TOOL, SPAWN, FAILS = "RUNTOOL", "RUNAGENT", "FAIL400"
_CALLS = {
    TOOL: ("exec", {"command": "echo tool-ran"}),
    SPAWN: ("sessions_spawn", {"task": "report back", "mode": "run"}),
}
_USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


class Provider(Fake):
    """It answers both as a whole and as a stream."""

    def __init__(self) -> None:
        class Handler(JsonHandler):
            protocol_version = "HTTP/1.0"  # a stream ends with its connection

            def do_GET(self) -> None:  # noqa: N802 - http.server's name
                self.send_json({"object": "list", "data": [{"id": "fake-1", "object": "model"}]})

            def do_POST(self) -> None:  # noqa: N802 - http.server's name
                request = json.loads(self.body() or b"{}")
                said, tooled = _turn(request.get("messages") or [])
                if FAILS in said:
                    self.send_json({"error": {"message": "boom", "type": "invalid_request_error"}}, 400)
                    return
                # A summary for a compaction is asked for without tools, and quotes what was said.
                calls = _tool_calls(said) if request.get("tools") and not tooled else None
                base = {"id": "cmpl-1", "created": 1, "model": str(request.get("model"))}
                if request.get("stream"):
                    self.stream(base, calls)
                else:
                    choice = {"index": 0, "finish_reason": _reason(calls), "message": _message(calls)}
                    self.send_json(
                        {**base, "object": "chat.completion", "usage": _USAGE, "choices": [choice]}
                    )

            def stream(self, base: dict[str, Any], calls: list[dict[str, Any]] | None) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                for part in (
                    {"choices": [{"index": 0, "delta": _message(calls), "finish_reason": None}]},
                    {"choices": [{"index": 0, "delta": {}, "finish_reason": _reason(calls)}]},
                    {"choices": [], "usage": _USAGE},
                ):
                    line = json.dumps({**base, "object": "chat.completion.chunk", **part})
                    self.wfile.write(f"data: {line}\n\n".encode())
                self.wfile.write(b"data: [DONE]\n\n")

        super().__init__(Handler)
        self.url += "/v1"


def _turn(messages: list[dict[str, Any]]) -> tuple[str, bool]:
    """Return what the user has said since the last complete answer, and whether a tool has run since."""
    answers = [
        number
        for number, each in enumerate(messages)
        if each.get("role") == "assistant" and not each.get("tool_calls")
    ]
    turn = messages[answers[-1] + 1 :] if answers else messages
    said = " ".join(_text(each) for each in turn if each.get("role") == "user")
    return said, any(each.get("role") == "tool" for each in turn)


def _text(message: dict[str, Any]) -> str:
    """Return a message without the earlier ones that OpenClaw quotes after it."""
    return _content(message).partition("<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>")[0]


def _content(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


def _tool_calls(said: str) -> list[dict[str, Any]] | None:
    for word, (name, arguments) in _CALLS.items():
        if word in said:
            function = {"name": name, "arguments": json.dumps(arguments)}
            return [{"index": 0, "id": f"call_{name}", "type": "function", "function": function}]
    return None


def _message(calls: list[dict[str, Any]] | None) -> dict[str, Any]:
    if calls:
        return {"role": "assistant", "content": None, "tool_calls": calls}
    return {"role": "assistant", "content": "pong from fake-1"}


def _reason(calls: list[dict[str, Any]] | None) -> str:
    return "tool_calls" if calls else "stop"
