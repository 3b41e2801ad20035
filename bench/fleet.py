"""Run swarm, ansible-core and pyinfra on 1 to 256 hosts, and print time, CPU and memory by the number of hosts.

    python bench/fleet.py [--sizes 1,8,64,256] [--machines 8] [--rounds 1] [--only swarm,pyinfra]

Each host has a name and an address of its own: a host file for swarm, an entry in the inventory for the peers. They are
spread over a handful of systemd machines, which the program boots itself (tools/lab: needs root and systemd-nspawn).
Nothing is left to change, so what is measured is how long a tool takes to find that out. All tools work on 16 hosts at
once. README.md says more.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench._fleet import Fleet, Used
from tools.lab import LabError, World, missing

# "Must reach" with 256 hosts, as a part of the peer's time, and MiB for each host beyond the program itself.
_TIME = {"ansible-core": 0.03, "pyinfra": 0.15}
_MEMORY = 4.0
_STATUS = 3.0  # the most that status over 64 hosts may take, as a multiple of one host
_INSTANCES = 7  # inotify instances that one machine's systemd takes

Times = dict[tuple[str, int], list[Used]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sizes", default="1,8,64,256")
    parser.add_argument("--machines", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--only", default="", help="measure only these tools, by the beginnings of their names"
    )
    options = parser.parse_args()
    sizes = sorted({int(size) for size in options.sizes.split(",")})
    if lacking := missing():
        sys.exit(f"this program needs {', '.join(lacking)}")
    enough(options.machines)
    try:
        with World() as world, tempfile.TemporaryDirectory(prefix="swarm-bench-") as folder:
            fleet = Fleet(world, options.machines, Path(folder), sizes)
            try:
                report(measure(fleet, sizes, options.rounds, options.only), sizes)
            finally:
                fleet.forget()
    except LabError as error:
        sys.exit(str(error))


def enough(machines: int) -> None:
    """Exit if the kernel has too few inotify instances for so many machines: the last ones would not boot."""
    limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    if machines * _INSTANCES > limit:
        sys.exit(
            f"{machines} machines need {machines * _INSTANCES} inotify instances; the kernel gives {limit} to a user\n"
            f"  hint: use --machines {limit // _INSTANCES} or fewer; hosts are names, so there can be more of them"
        )


def measure(fleet: Fleet, sizes: list[int], rounds: int, only: str) -> Times:
    """Return what each run took, by tool and number of hosts."""
    times: Times = {}
    for tool in fleet.tools:
        if not tool.startswith(tuple(only.split(","))):
            continue
        fleet.settle(tool)
        for size in sizes:
            for number in range(rounds):
                used = fleet.run(tool, size)
                times.setdefault((tool, size), []).append(used)
                line = (
                    f"round {number + 1}: {tool}, {size} hosts: {used.seconds:.2f} s, {used.memory:.0f} MiB"
                )
                print(line, file=sys.stderr, flush=True)
    return times


def report(times: Times, sizes: list[int]) -> None:
    """Print the medians, and whether the goals are met on this computer at this moment."""
    median = {
        key: Used(*(statistics.median(column) for column in zip(*values, strict=True)))
        for key, values in times.items()
    }
    tools = list(dict.fromkeys(tool for tool, _ in times))
    for title, column, unit in (("time", 0, "s"), ("CPU on this side", 1, "s"), ("peak memory", 2, "MiB")):
        print(f"\n{title:24}" + "".join(f"{f'{size} hosts':>14}" for size in sizes))
        for tool in tools:
            if not any(median[tool, size][column] for size in sizes):
                continue
            cells = "".join(f"{median[tool, size][column]:>10.2f} {unit:3}" for size in sizes)
            print(f"{tool:24}{cells}")
    print()
    goals(median, sizes)


def goals(median: dict[tuple[str, int], Used], sizes: list[int]) -> None:
    """Print a line for each goal whose figures were measured."""
    many, ours = sizes[-1], "swarm customize"
    for tool, limit in _TIME.items():
        if (tool, many) in median and (ours, many) in median:
            part = median[ours, many].seconds / median[tool, many].seconds
            print(f"customize on {many} hosts: {part:.3f} × {tool} ({_verdict(part, limit)})")
    if (ours, many) in median and many > 1 and sizes[0] == 1:
        each = (median[ours, many].memory - median[ours, 1].memory) / (many - 1)
        print(f"customize: {each:.2f} MiB for each host beyond the first ({_verdict(each, _MEMORY)})")
    status = "swarm status"
    if {(status, 1), (status, 64)} <= median.keys():
        ratio = median[status, 64].seconds / median[status, 1].seconds
        print(f"status over 64 hosts: {ratio:.2f} × one host ({_verdict(ratio, _STATUS)})")
        if ("ssh true", 64) in median:
            floor = median["ssh true", 64].seconds / median["ssh true", 1].seconds
            print(
                f"ssh true over 64 hosts: {floor:.2f} × one host; the hosts share this computer's processors"
            )


def _verdict(value: float, limit: float) -> str:
    return f"{'PASS' if value <= limit else 'FAIL'}, at most {limit:g}"


if __name__ == "__main__":
    main()
