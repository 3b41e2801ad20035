"""Ask for the masked keys of models: the API shows them for one model at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from swarm.console import Talk
    from swarm.litellm.client import Client, Row

__all__ = ["masked_keys"]


def masked_keys(client: Client, rows: Sequence[Row], talk: Talk) -> dict[str, Mapping[str, Any] | None]:
    """Return the masked secrets of each row by its id, None for rows that LiteLLM shows none of. Raise RemoteError."""
    if not rows:
        return {}
    found: dict[str, Mapping[str, Any] | None] = {}
    with talk.step(f"comparing the keys of {len(rows)} models", silent=True) as meter:
        for number, row in enumerate(rows, 1):
            meter.note(f"{number} of {len(rows)}")
            found[row.id] = client.masks(row.id)
    return found
