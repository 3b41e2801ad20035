"""Measure backups on a state directory of about 600 MiB against tar with gzip and an upload, restic and borg.

    ./inv bench --name backup [-- --rounds 1]

Every tool gets the same tree and, but for borg, the same S3 server. restic and borg come from the distribution.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import _state, _unchanged
from swarm.paths import ROOT
from tools.seaweed import KEY, SECRET, Seaweed

GOALS = {
    "archive / today": 0.12,
    "archive / restic first": 0.65,
    "restore / restic": 0.9,
    "unchanged / rsync scan": 1.3,
}
MEMORY = 200 << 20  # bytes
# A small process in between measures the time and the peak memory of its children.
_MEASURE = """import resource, subprocess, sys, time
start = time.monotonic()
code = subprocess.call(sys.argv[2:])
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
open(sys.argv[1], "w").write(f"{time.monotonic() - start} {usage.ru_maxrss}")
sys.exit(code)
"""


@dataclass(frozen=True)
class Took:
    """One measurement: seconds, peak memory in bytes, and what the program printed."""

    seconds: float
    memory: int
    output: str


class Bench:
    """The tools, their tree and their servers, below one scratch directory."""

    def __init__(self, folder: Path, server: Seaweed) -> None:
        self.folder, self.endpoint = folder, server.endpoint
        self.tree = folder / "state"
        self.environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "RESTIC_PASSWORD": "bench",
            "RESTIC_CACHE_DIR": str(folder / "restic-cache"),
            "RESTIC_REPOSITORY": f"s3:{server.endpoint}/bench/restic",
            "BORG_REPO": str(folder / "borg"),
            "BORG_BASE_DIR": str(folder / "borg-base"),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "PYTHONPATH": str(ROOT),
            "SWARM_STATE": str(folder / "swarm"),
        }

    def run(self, *words: str | Path) -> Took:
        """Run a program to its end. Raise CalledProcessError if it fails."""
        report = self.folder / "measured"
        command = [sys.executable, "-c", _MEASURE, str(report), *map(str, words)]
        done = subprocess.run(
            command, env=self.environment, cwd=self.folder, check=True, stdout=subprocess.PIPE, text=True
        )
        seconds, memory = report.read_text().split()
        return Took(float(seconds), int(memory) << 10, done.stdout)

    def today(self) -> Took:
        """Pack the tree as today's script does, and upload it."""
        client = "boto3.client('s3', endpoint_url=sys.argv[1])"
        upload = f"import boto3, sys; {client}.upload_file(sys.argv[2], 'bench', 'today')"
        script = 'tar czf today.tgz -C "$1" . && exec "$2" -c "$3" "$4" today.tgz'
        return self.run("sh", "-c", script, "sh", self.tree, sys.executable, upload, self.endpoint)

    def floor(self) -> Took:
        """Pack and upload the tree as fast as standard tools can: no hash, no manifest, and nothing is verified."""
        client = "boto3.client('s3', endpoint_url=sys.argv[1])"
        upload = f"import boto3, sys; {client}.upload_fileobj(sys.stdin.buffer, 'bench', 'floor')"
        script = 'tar cf - -C "$1" . | zstd -q -1 -T0 | "$2" -c "$3" "$4"'
        return self.run("sh", "-c", script, "sh", self.tree, sys.executable, upload, self.endpoint)

    def ours(self, *words: str | Path) -> Took:
        """Run swarm's archive step or restore."""
        what, *rest = words
        program = ROOT / "bench" / "_archive.py"
        return self.run(sys.executable, "-P", program, what, "s3://bench/swarm/", self.endpoint, *rest)


def main() -> None:
    """Measure, print a table, and compare with the goals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    _install_peers()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="swarm-bench-", dir="/var/tmp")))
        server = Seaweed(folder / "s3")
        stack.callback(server.stop)
        (folder / "s3").mkdir()
        server.start()
        server.client().create_bucket(Bucket="bench")
        found: dict[str, list[float]] = {}
        for number in range(rounds):
            _measure(Bench(folder, server), found, number)
            for name in ("state", "restic-cache", "borg", "borg-base", "ours", "theirs"):
                shutil.rmtree(folder / name, ignore_errors=True)
        if _unchanged.possible():
            _state.make(folder / "state")
            for name, values in _unchanged.measure(folder).items():
                found[name] = values
                print(f"{name:32}{statistics.median(values):12.2f}", flush=True)
    _report({name: statistics.median(values) for name, values in found.items()})


def _install_peers() -> None:
    """Install restic and borg from the distribution, if they are missing, and say so."""
    if not all(map(shutil.which, ("restic", "borg"))):
        print("installing restic and borgbackup", flush=True)
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "restic", "borgbackup"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _measure(bench: Bench, found: dict[str, list[float]], number: int) -> None:
    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)
        print(f"{name:32}{value:12.2f}", flush=True)

    bench.environment["RESTIC_REPOSITORY"] += str(number)
    _state.make(bench.tree)
    note("today, s", bench.today().seconds)
    note("today, MiB", (bench.folder / "today.tgz").stat().st_size / 2**20)
    note("tar, zstd -1 and upload, s", bench.floor().seconds)
    ours = bench.ours("archive", bench.tree)
    name, stored, packed, verified = ours.output.split()
    note("ours: archive, s", float(packed))
    note("ours: verify, s", float(verified))
    note("ours: the whole process, s", ours.seconds)
    note("ours, MiB", int(stored) / 2**20)
    note("ours: memory, MiB", ours.memory / 2**20)
    bench.run("restic", "init", "-q")
    first = bench.run("restic", "backup", "-q", bench.tree)
    note("restic first, s", first.seconds)
    note("restic: memory, MiB", first.memory / 2**20)
    stats = bench.run("restic", "stats", "--mode", "raw-data", "--json").output
    note("restic, MiB", _json_number(stats, "total_size") / 2**20)
    bench.run("borg", "init", "-e", "none")
    note("borg first, s", bench.run("borg", "create", "::one", bench.tree).seconds)
    note("restic list, s", bench.run("restic", "snapshots").seconds)
    note(
        "restic restore, s",
        bench.run("restic", "restore", "-q", "latest", "--target", bench.folder / "theirs").seconds,
    )
    note("ours: restore, s", bench.ours("restore", name, bench.folder / "ours").seconds)
    bench.run("diff", "-r", "--no-dereference", bench.tree, bench.folder / "ours")
    note("restic unchanged, s", bench.run("restic", "backup", "-q", bench.tree).seconds)
    note("borg unchanged, s", bench.run("borg", "create", "::two", bench.tree).seconds)
    _state.change(bench.tree, number)
    note("ours, 1 % changed, s", bench.ours("archive", bench.tree).seconds)
    note("restic, 1 % changed, s", bench.run("restic", "backup", "-q", bench.tree).seconds)
    note("borg, 1 % changed, s", bench.run("borg", "create", "::three", bench.tree).seconds)


def _json_number(text: str, name: str) -> float:
    import json

    return float(json.loads(text)[name])


def _report(median: dict[str, float]) -> None:
    print("\nmedians")
    for name, value in median.items():
        print(f"{name:32}{value:12.2f}")
    ratios = {
        "archive / today": median["ours: archive, s"] / median["today, s"],
        "archive / restic first": median["ours: archive, s"] / median["restic first, s"],
        "restore / restic": median["ours: restore, s"] / median["restic restore, s"],
    }
    if "rsync scan, s" in median:
        ratios["unchanged / rsync scan"] = median["ours, unchanged, s"] / median["rsync scan, s"]
    print("\ngoals")
    for name, ratio in ratios.items():
        print(f"{name:32}{ratio:8.3f}  goal {GOALS[name]:.2f}  {'PASS' if ratio <= GOALS[name] else 'FAIL'}")
    floor = median["tar, zstd -1 and upload, s"] / median["today, s"]
    print(f"{'tar, zstd -1 and upload / today':32}{floor:8.3f}  for information")
    smaller = median["ours, MiB"] < min(median["today, MiB"], median["restic, MiB"])
    print(f"{'smaller than both':32}{'PASS' if smaller else 'FAIL'}")
    fits = median["ours: memory, MiB"] * 2**20 <= MEMORY
    print(f"{'memory at most 200 MiB':32}{'PASS' if fits else 'FAIL'}")


if __name__ == "__main__":
    main()
