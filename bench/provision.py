"""Measure the time from a command to a root login over SSH, for swarm, virt-install and virt-lightning.

`./inv bench` or `python bench/provision.py`; --help lists the options. README.md describes what is measured, and why.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # started by its path, not by ./inv bench
    sys.path[0] = str(ROOT)

from bench import _contenders  # noqa: E402 - the lines above make it importable
from bench._arena import HOST, Arena, run  # noqa: E402
from swarm.console import Talk, screen  # noqa: E402
from swarm.errors import SwarmError, VerificationFailed  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench._contenders import Contender

LIST = "list"
CONTENDERS = ("swarm", "virt-install", "virt-lightning")
_AGAIN, _LISTS = 5, 20  # repetitions of the quick measurements
_GOAL = 1.0  # provision-to-SSH takes no longer than with virt-install
_AGAIN_GOAL, _LIST_GOAL = 2.0, 0.2  # seconds


@dataclass(frozen=True)
class Lap:
    """One provisioning. Times are in seconds from the command's start; `cpu` is the VM's CPU time until the login."""

    name: str
    round: int
    login: float
    command: float
    cpu: float
    has: str
    secure_boot: str
    load: float


def lap(contender: Contender, arena: Arena, number: int) -> Lap:
    """Make one VM. Return when a login worked and when the command ended. The VM keeps running. Raise SwarmError."""
    argv, load = list(contender.command()), os.getloadavg()[0]
    output = arena.folder / f"{contender.name}.log"

    def alive() -> None:
        if code := process.poll():
            last = "\n  ".join(output.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-8:])
            raise VerificationFailed(f"{contender.name} failed with exit code {code}:\n  {last}")

    with arena.alone(), output.open("wb") as log:
        start = time.monotonic()
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=arena.environment
        )
        try:
            expected = contender.host_key if contender.knows_key else None
            # A program that logs in by itself is believed, and checked afterwards: a second login at the same moment
            # would cost an emulated guest seconds that the other contenders do not pay.
            secure_boot = "" if contender.says_login else arena.login.wait(contender.address, expected, alive)
            while contender.says_login and contender.says_login not in output.read_bytes():
                alive()
                time.sleep(0.02)
            login = time.monotonic() - start
            cpu, has = arena.facts(contender.domain)
            secure_boot = secure_boot or arena.login.wait(contender.address, expected, alive)
            process.wait()
            command = time.monotonic() - start
            alive()
        finally:
            process.kill()
            process.wait()
    return Lap(contender.name, number, login, command, cpu, has, secure_boot, load)


def again() -> list[float]:
    """Return the seconds that each unchanged run takes. Raise VerificationFailed if a run changes something."""
    times = []
    for _ in range(_AGAIN):
        start = time.monotonic()
        changes = json.loads(run([str(ROOT / "inv"), "provision", "--host", HOST, "--json"]))
        times.append(time.monotonic() - start)
        if any(host.get("changes") for host in changes if isinstance(host, dict)):
            raise VerificationFailed(f"the second run changed something: {changes}")
    return times


def lists(arena: Arena) -> dict[str, list[float]]:
    """Return the seconds of each `./inv --list`, and of Invoke with an empty tasks.py, which is the least possible."""
    empty = arena.folder / "empty"
    empty.mkdir()
    (empty / "tasks.py").write_text("", encoding="utf-8")
    plain = [str(Path(sys.executable).parent / "invoke"), "--list"]
    times: dict[str, list[float]] = {"./inv --list": [], "invoke --list, no tasks": []}
    for number in range(_LISTS + 1):
        for name, argv, folder in (
            ("./inv --list", [str(ROOT / "inv"), "--list"], ROOT),
            ("invoke --list, no tasks", plain, empty),
        ):
            start = time.monotonic()
            # Invoke without tasks correctly ends with an error. Only its time counts.
            subprocess.run(
                argv,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
            if number:  # the first warms up
                times[name].append(time.monotonic() - start)
    return times


def main() -> int:
    """Measure what the command line asks for and print it. Return 0 if nothing broke, whatever the figures."""
    parser = argparse.ArgumentParser(prog="./inv bench --", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        metavar="N",
        help="rounds; in each, every contender makes one VM (default: 3)",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[*CONTENDERS, LIST],
        help="measure only this; may be given several times",
    )
    parser.add_argument(
        "--json", action="store_true", help="write everything that was measured to stdout, as JSON"
    )
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    talk, code = Talk(screen()), 0
    result: dict[str, Any] = {
        "machine": {"cpus": os.cpu_count(), "load at start": os.getloadavg()[0]},
        "laps": [],
    }
    try:
        measure(result, options.only or [*CONTENDERS, LIST], options.rounds, talk)
    except SwarmError as error:
        talk.screen.error(error)
        code = error.exit_code
    except KeyboardInterrupt:
        talk.say("interrupted; everything that was made is removed; measured so far:")
        code = 130
    result["machine"]["load at end"] = os.getloadavg()[0]
    if options.json:
        talk.screen.json(result)
    else:
        show(result, talk)
    return code


def measure(result: dict[str, Any], chosen: Sequence[str], rounds: int, talk: Talk) -> None:
    """Put every measurement into `result`, as plain data, as soon as it is known. Times are in seconds."""
    arena = Arena(talk)
    kinds = {
        kind.name: kind for kind in (_contenders.Ours, _contenders.VirtInstall, _contenders.VirtLightning)
    }
    contenders: list[Any] = [kind(arena) for name, kind in kinds.items() if name in chosen]
    try:
        if contenders:
            result["upload"] = arena.prepare()
        for contender in contenders:
            contender.prepare()
        for number in range(rounds):
            turn = number % len(contenders) if contenders else 0
            for contender in [*contenders[turn:], *contenders[:turn]]:
                with talk.step(f"round {number + 1} of {rounds}: {contender.name}"):
                    done = lap(contender, arena, number + 1)
                talk.say(
                    f"  login after {done.login:.1f} s, end after {done.command:.1f} s; CPU {done.cpu:.1f} s; "
                    f"load was {done.load:.1f}"
                )
                result["laps"].append(asdict(done))
                if contender.name == "swarm" and number == 0:
                    with talk.step("the second run"):
                        result["second run"] = again()
                contender.destroy()
        if LIST in chosen:
            with talk.step("./inv --list"):
                result["list"] = lists(arena)
    finally:
        arena.close()
        for contender in contenders:
            getattr(contender, "close", lambda: None)()


def median(result: dict[str, Any], name: str, what: str) -> float | None:
    """Return the median of one figure of a contender, or None if it was not measured."""
    values = [one[what] for one in result["laps"] if one["name"] == name]
    return statistics.median(values) if values else None


def show(result: dict[str, Any], talk: Talk) -> None:
    """Print the medians, how they compare, and whether the goals are met."""
    _show_laps(result, talk)
    if upload := result.get("upload"):
        print(f"not included: uploading the image, once for each hypervisor: {upload:.1f} s")
    if times := result.get("second run"):
        middle = statistics.median(times)
        print(f"second, unchanged run: {middle:.2f} s{_verdict(middle, _AGAIN_GOAL, ' s')}")
    for name, times in result.get("list", {}).items():
        middle = statistics.median(times)
        print(
            f"{name}: {middle:.3f} s{_verdict(middle, _LIST_GOAL, ' s') if name.startswith('./inv') else ''}"
        )
    machine = result["machine"]
    print(
        f"{machine['cpus']} CPUs; load {machine['load at start']:.1f} before, {machine['load at end']:.1f} after"
    )


def _show_laps(result: dict[str, Any], talk: Talk) -> None:
    rows, swarm = [], "swarm"
    for name in CONTENDERS:
        login, command, cpu = (median(result, name, what) for what in ("login", "command", "cpu"))
        if login is not None:
            laps = " ".join(f"{one['login']:.1f}" for one in result["laps"] if one["name"] == name)
            rows.append((name, f"{login:.1f} s", laps, f"{cpu:.1f} s", f"{command:.1f} s"))
    if rows:
        talk.screen.table(("median of", "login", "each round", "CPU until login", "command ended"), rows)
        print()
    for name in CONTENDERS:
        if about := next((one for one in result["laps"] if one["name"] == name), None):
            print(f"{name}: {about['has']}; {about['secure_boot']}")
    for name in CONTENDERS[1:]:
        ours, theirs = median(result, swarm, "login"), median(result, name, "login")
        if ours and theirs:
            verdict = _verdict(ours / theirs, _GOAL) if name == "virt-install" else ""
            cpu = (median(result, swarm, "cpu") or 0) / (median(result, name, "cpu") or 1)
            print(f"provision-to-SSH, swarm / {name}: {ours / theirs:.2f} (CPU {cpu:.2f}){verdict}")


def _verdict(value: float, limit: float, unit: str = "") -> str:
    return f": {'PASS' if value <= limit else 'FAIL'} (at most {limit:.1f}{unit})"


if __name__ == "__main__":
    sys.exit(main())
