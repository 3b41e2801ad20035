"""One OpenSSH process on the kept control connection, with limits on everything that it sends back."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """How long one conversation with a guest may take, and how much the guest may say. Beyond it the connection is closed.

    `total` and `silence` are in seconds: for the whole conversation, and without a single byte. `line` and `output` are in
    bytes: of one line, and of everything. The guest sends a sign of life every 15 s while a step works or waits.
    """

    total: float = 900.0
    silence: float = 120.0
    line: int = 1 << 20
    output: int = 16 << 20
