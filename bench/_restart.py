"""The part of bench/hook.py about memory in the real gateway: a start with a full spool, against an empty one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from bench import _handler
from bench._apart import apart
from tools.lab.process import LabError
from tools.openclaw.gateway import Gateway

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Restart", "restarts"]

_LIMIT = 900.0  # seconds for a spool; one event a request takes 4 minutes for 64 MiB
_SETTLE = 60.0  # seconds after which a gateway with nothing to do has loaded what it loads lazily


class Restart(NamedTuple):
    """What a start cost."""

    start: int  # bytes of memory at its highest until the gateway was ready
    after: int  # bytes at its highest from then on, until the spool was empty
    seconds: float  # from ready to an empty spool


def restarts(sizes: list[int]) -> Iterator[tuple[int, Restart]]:
    """Yield what each start of a gateway costs whose spool holds so many bytes."""
    with apart() as (folder, stack):
        url = stack.enter_context(_handler.endpoint(_handler.UP))
        for number, size in enumerate(sizes):
            home = folder / f"gateway{number}"
            home.mkdir()
            yield size, _restart(home, url, size)


def _restart(home: Path, url: str, size: int) -> Restart:
    gateway = Gateway(home, {"AGENTMON_INGEST_URL": url})
    try:
        if size:
            _handler.fill(size, gateway.state)
        gateway.start()
        before = gateway.peak
        gateway.forget_peak()
        start = time.monotonic()
        emptied = 0.0
        while gateway.spool or time.monotonic() - start < _SETTLE:
            if time.monotonic() - start > _LIMIT:
                raise LabError(f"a spool of {size} bytes was not delivered in {_LIMIT:.0f} seconds")
            time.sleep(1)
            if not gateway.spool and not emptied:
                emptied = time.monotonic() - start
        return Restart(before, gateway.peak, emptied)
    finally:
        gateway.close()
