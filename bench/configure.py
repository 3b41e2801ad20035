"""Configure hosts with ansible-core, pyinfra and swarm, to the same end state, and print how long each took.

    python bench/configure.py [--rounds N] [--hosts 8] [--quick]

Twelve steps (four templated files, two lines, two sysctls, a user, a group, two guarded commands) on real systemd
machines, which the program boots itself (tools/lab: needs root and systemd-nspawn). The peers are installed into a
temporary environment. All tools take turns within a round, each run is a process of its own, and after each case the
end states are compared. README.md describes the cases. Read the ratios: the seconds depend on the computer.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench._report import MANY, Case, Times, report
from bench._runs import RESET, STATE, TOOLS, Bench, Took
from tools.lab import LabError, World, missing


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hosts", type=int, default=MANY)
    parser.add_argument("--quick", action="store_true", help="one host, no added round trip")
    options = parser.parse_args()
    if lacking := missing():
        sys.exit(f"this program needs {', '.join(lacking)}")
    try:
        with World() as world, tempfile.TemporaryDirectory(prefix="swarm-bench-") as folder:
            bench = Bench(world, 1 if options.quick else options.hosts, Path(folder))
            try:
                with bench.relaying():
                    report(measure(bench, options.rounds, quick=options.quick))
            finally:
                bench.forget_all()
    except LabError as error:
        sys.exit(str(error))


def cases(many: int, *, quick: bool) -> list[Case]:
    """Return the cases in the order in which they are measured.

    An "again" follows its like at once, since tools keep their connections for a while only: ansible 60 s, swarm 120 s.
    """
    counts = [1] if quick else [1, many]
    distances = [False] if quick else [False, True]
    return [
        case
        for count in counts
        for case in (
            Case(count, first=True),
            *(Case(count, far=far, again=again) for far in distances for again in (False, True)),
        )
    ]


def measure(bench: Bench, rounds: int, *, quick: bool) -> Times:
    """Return what every run took, by tool and case."""
    times: Times = {}
    for number in range(rounds):
        for case in cases(len(bench.machines), quick=quick):
            for tool, took in run_case(bench, case).items():
                times.setdefault((tool, case), []).append(took)
                line = f"round {number + 1}: {case}: {tool}: {took.seconds:.2f} s"
                print(line, file=sys.stderr, flush=True)
    return times


def run_case(bench: Bench, case: Case) -> dict[str, Took]:
    """Run every tool once, and return what each took. Exit if two of them left different end states."""
    took: dict[str, Took] = {}
    states: dict[str, list[str]] = {}
    for tool in TOOLS:
        if tool == "ssh true" and case.first:
            continue
        if case.first:
            bench.each(RESET, case.count)
        took[tool] = bench.run(tool, case.count, far=case.far, again=case.again)
        if tool != "ssh true":
            states[tool] = bench.each(STATE, case.count)
    compare(states)
    return took


def compare(states: dict[str, list[str]]) -> None:
    """Exit if two tools left different end states."""
    first = states["ansible-core"]
    for tool, state in states.items():
        if state != first:
            sys.exit(f"{tool} left another end state than ansible-core:\n{state[0]}\n---\n{first[0]}")


if __name__ == "__main__":
    main()
