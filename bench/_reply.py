"""The part of bench/hook.py with the real gateway: the time until a reply on Telegram, without and with a hook."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING

from bench._apart import apart
from swarm.paths import ROOT
from tools.fake import Fake, JsonHandler
from tools.lab.process import LabError
from tools.openclaw.gateway import Gateway

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["CASES", "DELAYED", "NAIVE", "NONE", "OURS", "replies"]

NONE, OURS = "no hook", "swarm's hook, the endpoint hangs"
DELAYED, NAIVE = "naive hook, the endpoint takes 2 s", "naive hook, the endpoint hangs"
CASES = (NONE, OURS, DELAYED)
_DELAY = 2.0  # seconds
_WARM = 2  # turns of each gateway before the measured ones


class _Endpoint(Fake):
    """An endpoint that answers after `delay` seconds, or never."""

    def __init__(self, delay: float | None) -> None:
        self.delay = delay
        endpoint, never = self, threading.Event()

        class Handler(JsonHandler):
            def do_POST(self) -> None:  # noqa: N802 - http.server's name
                self.body()
                never.wait(endpoint.delay)
                self.send_json({}, 202)

        super().__init__(Handler)


def replies(rounds: int) -> dict[str, list[float]]:
    """Return the seconds until each reply, by case. The gateways take turns, in an order that rotates.

    A naive hook whose endpoint hangs is asked once, at the end; its list is empty if no reply came.
    """
    with apart() as (folder, stack):
        delayed = _Endpoint(_DELAY)
        urls = {NONE: "", OURS: _Endpoint(None).url, DELAYED: delayed.url}
        hooks = {NONE: None, OURS: ROOT / "hooks/agentmon", DELAYED: _naive(folder)}
        gateways = {}
        for number, case in enumerate(CASES):
            home = folder / f"gateway{number}"
            home.mkdir()
            gateways[case] = Gateway(home, {"AGENTMON_INGEST_URL": urls[case]}, hooks[case])
            stack.callback(gateways[case].close)
            gateways[case].start()
        for case in [case for case in CASES for _ in range(_WARM)]:
            gateways[case].ask("hello")
        found: dict[str, list[float]] = {case: [] for case in CASES}
        for case in _order(rounds):
            found[case].append(gateways[case].ask("hello"))
        delayed.delay = None
        try:
            found[NAIVE] = [gateways[DELAYED].ask("hello")]
        except LabError:  # the gateway's limit for a reply
            found[NAIVE] = []
        return found


def _order(rounds: int) -> Iterator[str]:
    for number in range(rounds):
        first = number % len(CASES)
        yield from CASES[first:] + CASES[:first]


def _naive(folder: Path) -> Path:
    """Return a hook's folder with the naive handler, for the same events as ours."""
    made = folder / "naive"
    made.mkdir()
    shutil.copy(ROOT / "hooks/agentmon/HOOK.md", made)
    shutil.copy(ROOT / "bench/naive.ts", made / "handler.ts")
    return made
