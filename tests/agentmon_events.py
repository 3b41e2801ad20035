"""Valid events of agentmon, as a hook sends them."""

from __future__ import annotations

import uuid
from typing import Any

__all__ = ["event"]


def event(
    *,
    type: str = "span.end",  # noqa: A002 - the field's name
    client_id: str = "zap",
    seq: int | None = None,
    ts: object = "2026-09-20T10:11:12.345Z",
    id: str | None = None,  # noqa: A002 - as above
    payload: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return one event, with an id of its own unless one is given."""
    inner: dict[str, Any] = {
        "id": id or str(uuid.uuid4()),
        "type": type,
        "ts": ts,
        "source": {"framework": "openclaw", "client_id": client_id, "host": "zap.lan"},
    }
    if seq is not None:
        inner["seq"] = seq
    return {"schema": {"name": "agentmon.event", "version": 1}, "event": inner, "payload": payload or {}}
