"""Reply times of the real OpenClaw gateway, for bench/hook.py: without a hook, with ours, and with the naive one."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from swarm.paths import ROOT
from tools.openclaw.gateway import Gateway

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["CASES", "replies"]

CASES = ("no hook", "our hook, hanging", "naive hook, slow")
_HOOK = """\
---
name: agentmon
description: "A naive hook"
metadata:
  openclaw:
    events: ["command", "session", "agent", "gateway", "message"]
---
"""
_WARM = 2  # turns whose time does not count: the first ones load code


def replies(folder: Path, urls: Mapping[str, str], turns: int) -> dict[str, list[float]]:
    """Return the seconds of each reply by case. Each turn asks all gateways, one after another, in a changing order.

    `urls` are the endpoints of the cases that have a hook.
    """
    naive = folder / "naive"
    naive.mkdir()
    (naive / "HOOK.md").write_text(_HOOK, encoding="utf-8")
    shutil.copy2(ROOT / "bench/naive.ts", naive / "handler.ts")
    hooks = dict(zip(CASES, (None, ROOT / "hooks/agentmon", naive), strict=True))
    times: dict[str, list[float]] = {case: [] for case in CASES}
    with ExitStack() as stack:
        gateways = {
            case: stack.enter_context(_running(folder / str(number), urls.get(case), hook))
            for number, (case, hook) in enumerate(hooks.items())
        }
        for turn in range(_WARM + turns):
            for number in range(len(CASES)):
                case = CASES[(turn + number) % len(CASES)]
                took = gateways[case].ask(f"turn {turn}")
                if turn >= _WARM:
                    times[case].append(took)
    return times


@contextmanager
def _running(home: Path, url: str | None, hook: Path | None) -> Iterator[Gateway]:
    home.mkdir()
    gateway = Gateway(home, {"AGENTMON_INGEST_URL": url} if url else {}, hook)
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.close()
