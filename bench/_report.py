"""The tables of bench/configure.py: medians, ratios, and whether the project's goals are met."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench._runs import TOOLS

if TYPE_CHECKING:
    from bench._runs import Took

__all__ = ["Case", "Times", "report"]

MANY = 8  # the number of hosts for which there are goals
# The median that swarm may take in an unchanged run, as a part of pyinfra's, by number of hosts and kept connections.
GOALS = {(1, False): 0.14, (1, True): 0.08, (MANY, False): 0.16, (MANY, True): 0.10}


@dataclass(frozen=True)
class Case:
    """One measurement: on how many hosts, at which round trip, and whether the connections of the last run are kept."""

    count: int
    first: bool = False
    far: bool = False
    again: bool = False

    def __str__(self) -> str:
        words = [f"{self.count} host{'s' if self.count > 1 else ''}"]
        words += ["first run" if self.first else "unchanged"]
        return ", ".join(words + ["20 ms"] * self.far + ["again"] * self.again)

    @property
    def goal(self) -> float | None:
        """The part of pyinfra's time that swarm may take; None where there is no goal."""
        return None if self.first or self.far else GOALS.get((self.count, self.again))


Times = dict[tuple[str, Case], list["Took"]]


def report(times: Times) -> None:
    """Print the medians, swarm's part of the peers' times, and how eight hosts compare with one."""
    cases = list(dict.fromkeys(case for _, case in times))
    median = {key: statistics.median(took.seconds for took in values) for key, values in times.items()}
    cpu = {key: statistics.median(took.cpu for took in values) for key, values in times.items()}
    print(f"{'':32}" + "".join(f"{tool:>14}" for tool in TOOLS))
    for case in cases:
        print(f"{case!s:32}" + "".join(_cell(median.get((tool, case))) for tool in TOOLS))
    print("\nswarm's part of the others' time:")
    for case in cases:
        ansible, pyinfra = (median["swarm", case] / median[tool, case] for tool in TOOLS[:2])
        verdict = _verdict(pyinfra, case.goal)
        print(f"{case!s:32}{ansible:.3f} × ansible-core, {pyinfra:.3f} × pyinfra{verdict}")
    print()
    for case in cases:
        if case.count > 1 and not case.first:
            _compare_with_one(case, Case(1, far=case.far, again=case.again), median, cpu)


def _cell(seconds: float | None) -> str:
    return f"{'–':>14}" if seconds is None else f"{seconds:12.2f} s"


def _compare_with_one(
    case: Case, one: Case, median: dict[tuple[str, Case], float], cpu: dict[tuple[str, Case], float]
) -> None:
    """Print how much longer swarm takes on many hosts than on one, and how much of that is not swarm's."""
    ours, floor = (median[tool, case] / median[tool, one] for tool in ("swarm", "ssh true"))
    own = cpu["swarm", case] / cpu["swarm", one]
    print(
        f"{case}: {ours:.2f} × one host; ssh true alone: {floor:.2f} ×; CPU of swarm without the hosts': {own:.2f} ×"
    )


def _verdict(value: float, limit: float | None) -> str:
    """Return whether a goal is met on this computer at this moment; nothing where there is no goal."""
    if limit is None:
        return ""
    return f" ({'PASS' if value <= limit else 'FAIL'}, at most {limit:.2f})"
