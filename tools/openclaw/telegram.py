"""A fake Telegram Bot API: one user's messages go in, the bot's answers come out."""

from __future__ import annotations

import json
import re
import threading
import time
from typing import Any
from urllib.parse import parse_qs

from tools.fake import Fake, JsonHandler

__all__ = ["USER", "Telegram"]

USER = 42
_LONGEST = 5.0  # seconds that a poll for new messages may take
_PROGRESS = "<b>Working</b>"  # what OpenClaw sends while a tool runs; it is no reply
_BOT = {"id": 123456, "is_bot": True, "first_name": "Claw", "username": "claw_bot"}
_PERSON = {"id": USER, "is_bot": False, "first_name": "Tester", "username": "tester"}
_CHAT = {"id": USER, "type": "private", "first_name": "Tester"}


class Telegram(Fake):
    """`sent` are the texts of the bot's replies, `times` when they came, by the monotonic clock."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.times: list[float] = []
        self._updates: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._number = int(time.time())
        self._messages = 0
        telegram = self

        class Handler(JsonHandler):
            def do_POST(self) -> None:  # noqa: N802 - http.server's name
                given = _parameters(self.headers.get("content-type", ""), self.body())
                method = self.path.split("?")[0].rstrip("/").rpartition("/")[2]
                self.send_json({"ok": True, "result": telegram.result(method, given)})

            do_GET = do_POST  # noqa: N815 - http.server's name

        super().__init__(Handler)

    def say(self, text: str) -> None:
        """Let the user send a message to the bot."""
        with self._changed:
            self._number += 1
            message = {
                "message_id": self._number % 100_000, "date": int(time.time()), "text": text,
                "chat": _CHAT, "from": _PERSON,
            }  # fmt: skip
            if text.startswith("/"):
                message["entities"] = [
                    {"type": "bot_command", "offset": 0, "length": len(text.split(maxsplit=1)[0])}
                ]
            self._updates.append({"update_id": self._number, "message": message})
            self._changed.notify_all()

    def result(self, method: str, given: dict[str, Any]) -> object:
        """Return the result of one of the API's methods."""
        if method == "getUpdates":
            return self._poll(int(given.get("offset") or 0), float(given.get("timeout") or 0))
        if method in {"sendMessage", "editMessageText"}:
            if given.get("text") != _PROGRESS:
                self.times.append(time.monotonic())
                self.sent.append(str(given.get("text")))
            self._messages += 1
            return {
                "message_id": self._messages,
                "date": int(time.time()),
                "text": given.get("text"),
                "chat": _CHAT,
            }
        known: dict[str, object] = {
            "getMe": _BOT,
            "getChat": _CHAT,
            "getMyCommands": [],
            "getWebhookInfo": {"url": "", "has_custom_certificate": False, "pending_update_count": 0},
        }
        return known.get(method, True)

    def _poll(self, offset: int, timeout: float) -> list[dict[str, Any]]:
        end = time.monotonic() + min(timeout, _LONGEST)
        with self._changed:
            while True:
                self._updates = [each for each in self._updates if each["update_id"] >= offset]
                left = end - time.monotonic()
                if self._updates or left <= 0:
                    return list(self._updates)
                self._changed.wait(left)


def _parameters(kind: str, data: bytes) -> dict[str, Any]:
    if "json" in kind:
        found: dict[str, Any] = json.loads(data or b"{}")
        return found
    if "multipart" in kind:
        parts = re.finditer(rb'name="([^"]+)"\r\n\r\n(.*?)\r\n--', data, re.DOTALL)
        return {part[1].decode(): part[2].decode("utf-8", "replace") for part in parts}
    return {name: values[0] for name, values in parse_qs(data.decode()).items()}
