"""Calls of a gateway's methods over its WebSocket, as its own programs make them.

`openclaw gateway call` does the same, but starts for some five seconds of processor time before each call.
"""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import websocket

from tools.lab.process import LabError

__all__ = ["call"]

_PROTOCOL = 4  # of OpenClaw 2026.9.6; a gateway that speaks another says so in its answer
_SCOPES = ["operator.admin", "operator.read", "operator.write"]
# A client of this kind, on loopback and with the gateway's token, needs no paired device.
_CLIENT = {"id": "gateway-client", "mode": "backend", "version": "1", "platform": "linux"}


def call(port: int, token: str, method: str, params: dict[str, Any], limit: float) -> dict[str, Any]:
    """Call a method of the gateway at a port of loopback, and return its result.

    Raise LabError if the gateway refuses the call or is silent for `limit` seconds.
    """
    about = {
        "minProtocol": _PROTOCOL, "maxProtocol": _PROTOCOL, "client": _CLIENT, "role": "operator",
        "scopes": _SCOPES, "caps": [], "auth": {"token": token},
    }  # fmt: skip
    try:
        # The header Origin would make it a browser to the gateway, which needs a device.
        made = websocket.create_connection(f"ws://127.0.0.1:{port}", timeout=limit, suppress_origin=True)
        with closing(made) as socket:
            _ask(socket, "connect", about)
            return _ask(socket, method, params)
    except (OSError, websocket.WebSocketException) as error:
        raise LabError(f"the gateway did not answer {method}: {error}") from None


def _ask(socket: websocket.WebSocket, method: str, params: dict[str, Any]) -> dict[str, Any]:
    socket.send(json.dumps({"type": "req", "id": method, "method": method, "params": params}))
    while True:  # until its answer: events come in between
        message = json.loads(socket.recv())
        if message["type"] == "res" and message["id"] == method:
            if not message["ok"]:
                raise LabError(f"the gateway refused {method}: {message['error']['message']}")
            return dict(message.get("payload") or {})
