"""Measure what agentmon's hook costs the gateway, against a naive hook that waits for the endpoint at each event.

    ./inv bench --name hook [-- --turns 10 --events 5000 --only handler]

README.md describes what is measured, and why. Needs root, for a network namespace that holds only loopback.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench._gateways import CASES, replies
from swarm.paths import ROOT
from tools.netns import Namespace
from tools.node import node
from tools.openclaw.gateway import package

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Result = dict[str, float]
OURS, NAIVE = ROOT / "hooks/agentmon/handler.ts", ROOT / "bench/naive.ts"
_SLOW = 30.0  # seconds until the slow endpoint answers
_PATIENT = (
    3.0  # seconds until the endpoint of the naive hook's gateway answers; at 30, the turns would take an hour
)
_NEVER = -0.001
_DOWN = "http://127.0.0.1:9"  # nothing listens there
_FULL = 67_000_000  # bytes, just below the default cap of the spool
_MEMORY = 100_000  # events
_NAIVE_MEMORY = 2_000  # events; each holds a connection
# A heap without room: how much garbage V8 lets lie depends on the room that it has.
_TIGHT = ("--max-semi-space-size=1", "--max-old-space-size=40")
GOAL_HANDLER = 1.0  # ms
GOAL_MEMORY = 20.0  # MB that a restart with a full spool may take beyond one with an empty spool
_MB = 1024 * 1024


@dataclass(frozen=True)
class Lab:
    """A folder for everything, and how many events a measurement has."""

    folder: Path
    events: int

    def run(
        self,
        handler: Path,
        measurement: str,
        count: int,
        url: str,
        *options: str,
        batch: str = "",
        state: str = "",
    ) -> Result:
        """Measure in a process of its own, with a spool of its own unless `state` names one.

        Raise CalledProcessError.
        """
        home = self.folder / state if state else Path(tempfile.mkdtemp(dir=self.folder))
        home.mkdir(exist_ok=True)
        settings = {"OPENCLAW_STATE_DIR": str(home), "AGENTMON_INGEST_URL": url, "AGENTMON_BATCH": batch}
        done = subprocess.run(
            [node(), "--expose-gc", *options, ROOT / "bench/_events.ts", handler, measurement, str(count)],
            env=os.environ | settings, check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        found: Result = json.loads(done.stdout)
        return found


def main() -> None:
    """Run all measurements and print their tables. Exit with 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=10, help="turns of each gateway")
    parser.add_argument("--events", type=int, default=5_000, help="events of a measurement of time")
    parser.add_argument(
        "--only", choices=("handler", "gateway"), help="the handler alone, or the real gateway"
    )
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench/hook.py needs root: sudo ./inv bench --name hook")
    package()  # installed before the registry is out of reach
    namespace = Namespace()
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as name, namespace.inside():
        lab, goals = Lab(Path(name), options.events), {}
        if options.only != "gateway":
            goals["the handler is done in 1 ms (99 of 100)"] = _latency(lab)
            _rate(lab)
            _memory(lab)
            goals["a full spool costs a restart less than 20 MB"] = _restart(lab)
        if options.only != "handler":
            goals["replies within the noise of no hook, endpoint hanging"] = _replies(lab, options.turns)
    namespace.close()
    print()
    for goal, met in goals.items():
        print(f"{'PASS' if met else 'FAIL'}  {goal}")
    sys.exit(0 if all(goals.values()) else 1)


def _latency(lab: Lab) -> bool:
    print(f"ms until the handler is done {'first':>12}{'median':>12}{'99 of 100':>12}{'worst':>12}")
    worst = 0.0
    for handler in (OURS, NAIVE):
        for name, seconds in (("up", 0.0), ("slow", _SLOW), ("down", None)):
            # The naive hook would wait for hours, so it gets five events at once.
            waits = handler is NAIVE and name == "slow"
            with _endpoint(seconds) as url:
                found = lab.run(handler, "together" if waits else "latency", 5 if waits else lab.events, url)
            cells = "".join(f"{found[key]:12.3f}" for key in ("first", "median", "p99", "worst"))
            print(f"  {_name(handler):6} {name:19} {cells}")
            worst = max(worst, found["p99"] if handler is OURS else 0)
    return worst < GOAL_HANDLER


def _rate(lab: Lab) -> None:
    print(f"\nevents per second, endpoint up {'taken':>12}{'delivered':>12}")
    for handler, batch in ((OURS, "single"), (OURS, "array"), (NAIVE, "single")):
        with _endpoint(0.0) as url:
            found = lab.run(handler, "rate", lab.events, url, batch=batch)
        print(f"  {_name(handler):6} {batch:21} {found['taken']:12.0f}{found['delivered']:12.0f}")


def _memory(lab: Lab) -> None:
    print(f"\nMB more after events, endpoint hanging {'heap':>8}{'resident':>12}{'peak':>12}")
    for handler, count in ((OURS, _MEMORY), (NAIVE, _NAIVE_MEMORY)):
        with _endpoint(_NEVER) as url:
            found = lab.run(handler, "memory", count, url)
        cells = "".join(f"{found[key] / _MB:12.1f}" for key in ("heap", "rss", "peak"))
        print(f"  {_name(handler):6} {count:7} events {'':16}{cells}")


def _restart(lab: Lab) -> bool:
    """Compare the highest memory of a start that finds a full spool with that of one that finds an empty one."""
    print(f"\nMB at most, restart {'empty spool':>18}{'full spool':>12}{'more':>12}")
    most = 0.0
    for batch in ("single", "array"):
        for heap in (_TIGHT, ()):
            peaks = []
            for size in (0, _FULL):
                state = f"restart-{batch}-{len(heap)}-{size}"
                lab.run(OURS, "fill", size, _DOWN, state=state)
                with _endpoint(0.0) as url:
                    peaks.append(
                        lab.run(OURS, "restart", 200, url, *heap, batch=batch, state=state)["peak"] / _MB
                    )
            more = peaks[1] - peaks[0]
            label = f"{batch}, {'tight' if heap else 'free'} heap"
            print(f"  {label:42} {peaks[0]:8.1f} {peaks[1]:8.1f} {more:8.1f}")
            most = max(most, more if heap else 0)
    return most < GOAL_MEMORY


def _replies(lab: Lab, turns: int) -> bool:
    with _endpoint(_NEVER) as hanging, _endpoint(_PATIENT) as slow:
        times = replies(lab.folder, {CASES[1]: hanging, CASES[2]: slow}, turns)
    print(f"\ns until a reply, {turns} turns {'median':>12}{'quartiles':>18}{'range':>18}")
    for case in CASES:
        low, middle, high = statistics.quantiles(times[case], n=4)
        spread, whole = f"{low:.3f} to {high:.3f}", f"{min(times[case]):.3f} to {max(times[case]):.3f}"
        print(f"  {case:24} {middle:12.3f}{spread:>18}{whole:>18}")
    return _alike(times)


def _alike(times: Mapping[str, list[float]]) -> bool:
    """Whether the medians differ by less than the quartiles of the replies without a hook do."""
    none, ours = times[CASES[0]], times[CASES[1]]
    low, _, high = statistics.quantiles(none, n=4)
    return statistics.median(ours) - statistics.median(none) <= high - low


@contextmanager
def _endpoint(seconds: float | None) -> Iterator[str]:
    """Give the URL of an endpoint that answers after so many seconds, never if they are negative. None is down."""
    if seconds is None:
        yield _DOWN
        return
    command = [str(node()), str(ROOT / "bench/_endpoint.ts"), str(round(seconds * 1000))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{(process.stdout or sys.stdin).readline().strip()}"
        finally:
            process.kill()


def _name(handler: Path) -> str:
    return "ours" if handler is OURS else "naive"


if __name__ == "__main__":
    main()
