"""Measure agentmon's hook against a naive one, which waits for the endpoint at each event.

    ./inv bench --name hook [-- --parts latency rate memory start gateway reply --rounds 12 --events 100000]

The parts `gateway` and `reply` drive the real OpenClaw gateway and need root.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import _handler, _reply, _restart
from swarm.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

HOOKS = {"swarm": _handler.OURS, "naive": ROOT / "bench/naive.ts"}
GROWTH = 20.0  # MB, the goal for a start with a full spool
_SPOOL = 64 << 20  # bytes, the hook's default cap
_STARTS = 4  # of the real gateway with each spool; their memory differs by tens of MB
_ONE_BY_ONE, _TOGETHER, _RATE = 2000, 200, 5000  # events
_OPEN = 10_000  # events; each keeps a connection of the naive hook if the endpoint hangs, until files run out
_MB = 1e6


def main() -> None:
    """Run the measurements and print tables. Exit with 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12, help="turns of each gateway")
    parser.add_argument("--events", type=int, default=100_000, help="events of the measurement of memory")
    parser.add_argument(
        "--parts", nargs="+", choices=("latency", "rate", "memory", "start", "gateway", "reply")
    )
    options = parser.parse_args()
    parts: dict[str, Callable[[], bool]] = {
        "latency": _latency,
        "rate": _rate,
        "memory": lambda: _memory(options.events),
        "start": _start,
        "gateway": _gateway,
        "reply": lambda: _replies(options.rounds),
    }
    met = [parts[name]() for name in options.parts or parts]
    sys.exit(int(not all(met)))


def _latency() -> bool:
    _say("\nadded latency per event, ms", "median", "p99", "worst", "first")
    for state in (_handler.UP, _handler.SLOW, _handler.DOWN):
        for name, hook in HOOKS.items():
            # One after another, the naive hook would take 30 s for each event.
            waits = state == _handler.SLOW and name == "naive"
            kind, count = ("together", _TOGETHER) if waits else ("latency", _ONE_BY_ONE)
            took = _handler.measure(hook, state, kind, count)
            _say(
                f"{name}, the endpoint is {state}",
                *(took[key] for key in ("median", "p99", "worst", "first")),
            )
    return True


def _rate() -> bool:
    _say(f"\nevents per second, of {_RATE:,}", "taken", "delivered")
    cases: list[tuple[str, Path, dict[str, str]]] = [
        ("swarm, one a request", _handler.OURS, {}),
        ("swarm, ten a request", _handler.OURS, {"AGENTMON_BATCH": "ndjson"}),
        ("naive", HOOKS["naive"], {}),
    ]
    for name, hook, variables in cases:
        took = _handler.measure(hook, _handler.UP, "rate", _RATE, **variables)
        _say(name, f"{took['taken']:,.0f}", f"{took['delivered']:,.0f}")
    return True


def _memory(count: int) -> bool:
    _say(f"\nmemory after {count:,} events, MB", "peak", "rss", "heap")
    for state in (_handler.DOWN, _handler.HANGS):
        for name, hook in HOOKS.items():
            limited = min(count, _OPEN) if (state, name) == (_handler.HANGS, "naive") else count
            took = _handler.measure(hook, state, "memory", limited)
            label = f"{name}, the endpoint {_verb(state)}" + f", {limited:,} events" * (limited < count)
            _say(label, *(took[key] / _MB for key in ("peak", "rss", "heap")))
    return True


def _verb(state: str) -> str:
    return state if state == _handler.HANGS else f"is {state}"


def _start() -> bool:
    """Print how far the memory of a bare Node rises when a spool is delivered after a start, against an empty one."""
    _say("\nmemory of a bare Node at a start, MB", "peak", "growth", "delivered")
    empty = _handler.restart(0)["peak"]
    _say("an empty spool", empty / _MB)
    cases: list[tuple[str, dict[str, str]]] = [
        ("a full spool, ten a request", {"AGENTMON_BATCH": "ndjson"}),
        ("a full spool, one a request", {}),
    ]
    for label, variables in cases:
        took = _handler.restart(_SPOOL, **variables)
        _say(label, took["peak"] / _MB, (took["peak"] - empty) / _MB, f"{took['sent']:,.0f}")
    return True


def _gateway() -> bool:
    """Print the memory of the real gateway after a start with a full spool, one event a request, and an empty one."""
    _say("\nmemory of the gateway at a start, MB", "ready", "after", "seconds")
    found: dict[int, list[float]] = {0: [], _SPOOL: []}
    for size, took in _restart.restarts([0, _SPOOL] * _STARTS):
        found[size].append(took.after / _MB)
        label = "a full spool" if size else "an empty spool"
        _say(label, took.start / _MB, took.after / _MB, f"{took.seconds:.0f}")
    growth = statistics.median(found[_SPOOL]) - statistics.median(found[0])
    return _verdict(f"the memory grows by {growth:.1f} MB", f"less than {GROWTH:.0f} MB", met=growth < GROWTH)


def _replies(rounds: int) -> bool:
    found = _reply.replies(rounds)
    _say(f"\nseconds until a reply, {rounds} turns each", "median", "25 %", "75 %", "least", "most")
    for case in _reply.CASES:
        took = found[case]
        low, middle, high = statistics.quantiles(took, n=4, method="inclusive")
        _say(case, *(f"{value:.3f}" for value in (middle, low, high, min(took), max(took))))
    last = found[_reply.NAIVE]
    _say(_reply.NAIVE, f"{last[0]:.3f}" if last else "no reply in 90 s")
    middle = statistics.median(found[_reply.OURS])
    high = statistics.quantiles(found[_reply.NONE], n=4, method="inclusive")[2]
    goal = f"at most {high:.3f} s, the upper quartile without a hook"
    return _verdict(f"the median reply with swarm's hook takes {middle:.3f} s", goal, met=middle <= high)


def _say(label: str, *cells: float | str) -> None:
    print(f"{label:48}" + "".join(f"{_text(cell):>12}" for cell in cells), flush=True)


def _text(cell: float | str) -> str:
    return cell if isinstance(cell, str) else f"{cell:.2f}"


def _verdict(result: str, goal: str, *, met: bool) -> bool:
    print(f"{'PASS' if met else 'FAIL'}: {result} (goal: {goal})", flush=True)
    return met


if __name__ == "__main__":
    main()
