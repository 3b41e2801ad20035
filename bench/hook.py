"""Measure agentmon's hook against a naive one, which waits for the endpoint at each event.

    ./inv bench --name hook [-- --rounds 12 --events 100000]

The last part drives the real OpenClaw gateway and needs root. `--rounds 0` leaves it out.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import TYPE_CHECKING

from bench import _handler, _reply
from swarm.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

HOOKS = {"swarm": _handler.OURS, "naive": ROOT / "bench/naive.ts"}
GROWTH = 20.0  # MB, the goal for a start with a full spool
_SPOOL = 64 << 20  # bytes, the hook's default cap
_ONE_BY_ONE, _TOGETHER, _RATE = 2000, 200, 5000  # events
_MB = 1e6


def main() -> None:
    """Run the measurements and print tables. Exit with 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12, help="turns of each gateway")
    parser.add_argument("--events", type=int, default=100_000, help="events of the measurement of memory")
    options = parser.parse_args()
    _latency()
    _rate()
    _memory(options.events)
    met = _restart()
    if options.rounds:
        met &= _replies(options.rounds)
    sys.exit(int(not met))


def _latency() -> None:
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


def _rate() -> None:
    _say(f"\nevents per second, of {_RATE:,}", "taken", "delivered")
    cases: list[tuple[str, Path, dict[str, str]]] = [
        ("swarm, one a request", _handler.OURS, {}),
        ("swarm, ten a request", _handler.OURS, {"AGENTMON_BATCH": "ndjson"}),
        ("naive", HOOKS["naive"], {}),
    ]
    for name, hook, variables in cases:
        took = _handler.measure(hook, _handler.UP, "rate", _RATE, **variables)
        _say(name, f"{took['taken']:,.0f}", f"{took['delivered']:,.0f}")


def _memory(count: int) -> None:
    _say(f"\nmemory after {count:,} events, MB", "peak", "rss", "heap")
    for state in (_handler.DOWN, _handler.HANGS):
        for name, hook in HOOKS.items():
            took = _handler.measure(hook, state, "memory", count)
            _say(
                f"{name}, the endpoint {_verb(state)}", *(took[key] / _MB for key in ("peak", "rss", "heap"))
            )


def _verb(state: str) -> str:
    return state if state == _handler.HANGS else f"is {state}"


def _restart() -> bool:
    """Print how far the memory rises when a full spool is delivered, against an empty one."""
    _say("\nmemory at a start, MB", "peak")
    empty, full = _handler.restart(0), _handler.restart(_SPOOL)
    growth = (full["peak"] - empty["peak"]) / _MB
    _say("an empty spool", empty["peak"] / _MB)
    _say(f"a full spool, {full['sent']:,.0f} events delivered", full["peak"] / _MB)
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
