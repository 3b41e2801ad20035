"""Measure the plan and the search for copies over many models against a shell script that asks for each row.

    ./inv bench --name litellm [-- --rounds 3 --rows 1000 10000]

Everything asks the same real LiteLLM with a real PostgreSQL. "listing" is one plain request for the list of models,
which every tool has to make.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from swarm.paths import ROOT
from tools.litellm.rig import Proxy, running

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GOALS = {"requests": 3, "time / listing": 1.5}  # of 1,000 rows
MEMORY = 300 << 20  # bytes, of 10,000 rows
_SHELL_ROWS = 1000  # the script takes so long that it asks for no more
# What a plan or a dry run does, in a process of its own so that its memory can be measured. The imports are not timed.
_WORK = """
import json, resource, sys, time
from swarm.console import Talk, screen
from swarm.litellm import apply, client, dedup, difference, environment, wanted
variables = environment.read()
session, talk = client.client(variables), Talk(screen(), quiet=True)
target = wanted.resolve(wanted.load(), variables)
session.health("liveliness")  # connects, as the plain request below has, too
before, start = session.reads, time.perf_counter()
if sys.argv[1] == "plan":
    found = len(difference.compare(target, apply.observe(session, target, talk)).works)
else:
    found = sum(len(group.delete) for group in dedup.inspect(session, talk).groups)
seconds = time.perf_counter() - start
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
print(json.dumps([seconds, session.reads - before, session.writes, memory, found]))
"""
# Today's way, as the scripts before swarm do it: a request for each id.
_SCRIPT = """
while read -r id; do
    curl -sf -H @"$HEADERS" "$URL/model/info?litellm_model_id=$id" -o /dev/null || exit 1
done
"""


def main() -> None:
    """Run the measurement and print a table. Exit with 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000])
    options = parser.parse_args()
    missed = False
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as name, running() as proxy:
        for rows in options.rows:
            proxy.reset()
            proxy.seed(rows)
            missed |= _measure(proxy, Path(name), rows, options.rounds)
    sys.exit(int(missed))


def _measure(proxy: Proxy, folder: Path, rows: int, rounds: int) -> bool:
    """Measure with so many rows, print the results, and return whether a goal was missed."""
    environment = _environment(proxy, folder, rows)
    listing = _median([_listing(proxy) for _ in range(rounds + 2)][2:])  # the first ones fill caches
    print(f"\n{rows} models: a listing takes {listing:.3f} s")
    missed = False
    for work in ("plan", "dedup"):
        found = [_ours(work, environment) for _ in range(rounds)]
        seconds, memory = _median([each[0] for each in found]), max(each[3] for each in found)
        count, ratio = int(found[-1][1]), seconds / listing
        print(
            f"  {work:6} {seconds:7.3f} s, {ratio:.2f} × the listing, {count} requests, {found[-1][2]} writes, "
            f"{int(memory) >> 20} MiB, finds {found[-1][4]}"
        )
        missed |= rows <= _SHELL_ROWS and (count > GOALS["requests"] or ratio > GOALS["time / listing"])
        missed |= memory > MEMORY
    if rows <= _SHELL_ROWS:
        seconds = _timed(lambda: _shell(proxy, folder))
        print(f"  shell  {seconds:7.3f} s, {seconds / listing:.0f} × the listing, {rows} requests")
    return missed


def _environment(proxy: Proxy, folder: Path, rows: int) -> dict[str, str]:
    """Write a litellm folder whose models.yaml names as many models as there are, and return the environment."""
    lines = "".join(
        f"  - {{name: mine-{number}, model: openai/m, credential: c}}\n" for number in range(rows)
    )
    text = "credentials:\n  - {name: c, key_env: SOME_KEY}\nmodels:\n" + lines
    (folder / "models.yaml").write_text(text, encoding="utf-8")
    (folder / ".env").write_text(
        f"LITELLM_URL={proxy.url}\nLITELLM_MASTER_KEY={proxy.master_key}\nLITELLM_SALT_KEY={proxy.salt_key}\n"
        "SOME_KEY=sk-bench-0123456789\n",
        encoding="utf-8",
    )
    return {**os.environ, "SWARM_LITELLM": str(folder), "PYTHONPATH": str(ROOT)}


def _listing(proxy: Proxy) -> float:
    headers = {"Authorization": f"Bearer {proxy.master_key}"}
    with requests.Session() as session:
        session.get(f"{proxy.url}/health/liveliness", timeout=60)
        return _timed(lambda: session.get(f"{proxy.url}/model/info", headers=headers, timeout=600).content)


def _ours(work: str, environment: dict[str, str]) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", _WORK, work],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    result: list[float] = json.loads(done.stdout)
    return result


def _shell(proxy: Proxy, folder: Path) -> None:
    headers = folder / "headers"
    headers.write_text(f"Authorization: Bearer {proxy.master_key}\n", encoding="utf-8")
    listed = requests.get(
        f"{proxy.url}/model/info", headers={"Authorization": f"Bearer {proxy.master_key}"}, timeout=600
    )
    ids = "".join(f"{each['model_info']['id']}\n" for each in listed.json()["data"][:_SHELL_ROWS])
    subprocess.run(
        ["bash", "-c", _SCRIPT], input=ids, text=True, check=True,
        env={**os.environ, "URL": proxy.url, "HEADERS": str(headers)},
    )  # fmt: skip


def _timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    main()
