"""`inv upgrade` with the real OpenClaw, as typed: interrupted, to a version that starts, and to one that does not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from swarm import history
from swarm.backup.catalog import Catalog
from swarm.inventory import load
from swarm.paths import ROOT
from swarm.text import quote
from tests.nspawn.at_the_prompt import Operator
from tests.nspawn.registry import OneMore, releases

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Dirs
    from tests.nspawn.installed import NextRelease
    from tools.lab import Machine, World

pytestmark = pytest.mark.slow

MORE = "openclaw: {nodejs_source: npm, docker_source: distribution}\n"
RECORD = "/var/lib/swarm/openclaw-release"
STATE = "/home/openclaw/.openclaw"
PLANTED = f"{STATE}/credentials/planted"  # workspace/ is not in a backup
PORT = 4873
# The broken version's gateway destroys something before it ends, so that only a restore can bring it back.
EXITS = f"""import {{ rmSync as removeFirst }} from "node:fs";
if (process.argv.includes("gateway") && process.argv.includes("--port") && !process.argv.includes("install")) {{
  removeFirst("{PLANTED}", {{ force: true }});
  process.exit(1);
}}
"""


@pytest.fixture(scope="module")
def machine_with_older(next_release: NextRelease) -> Machine:
    """A machine with the release of OpenClaw before the newest, which has written an agent's database."""
    machine = next_release.host()
    said = json.dumps({"sessionKey": "agent:main:main", "message": "hi", "idempotencyKey": "first"})
    call = quote("openclaw", "gateway", "call", "chat.send", "--params", said, "--json")
    machine.ssh(f"runuser -l openclaw -c {quote(call)}")
    machine.until(f"test -s {STATE}/agents/main/agent/openclaw-agent.sqlite", "an agent's database")
    return machine


@pytest.fixture
def typist(world: World, dirs: Dirs, machine_with_older: Machine) -> Iterator[Operator]:
    """A user with the host file of that machine, which asks for the newest version."""
    made = Operator.make(world, dirs)
    made.add("demo", machine_with_older)
    path = dirs.hosts / "demo.yaml"
    path.write_text(path.read_text("utf-8") + MORE, encoding="utf-8")
    yield made
    made.close()


@contextmanager
def broken_release(machine: Machine, folder: Path, version: str) -> Iterator[None]:
    """Let the machine's npm and pnpm find a newest OpenClaw whose gateway exits at once."""

    def change(text: str) -> str:
        first, _, rest = text.partition("\n")
        assert first.startswith("#!")
        return f"{first}\n{EXITS}{rest}"

    way = f"{PORT}:127.0.0.1:{PORT}"
    line = f"echo registry=http://127.0.0.1:{PORT}/"
    homes = "/root /home/openclaw"
    with OneMore(folder, "openclaw", version, "dist/index.js", change, PORT):
        ssh = ["ssh", "-F", str(machine.config), "-N", "-o", "ExitOnForwardFailure=yes", "-R", way]
        with subprocess.Popen([*ssh, machine.alias], stdin=subprocess.DEVNULL) as tunnel:
            try:
                machine.until(f"curl -fsS -o /dev/null http://127.0.0.1:{PORT}/openclaw", "the registry")
                machine.ssh(f"for home in {homes}; do {line} >$home/.npmrc; done")
                yield
            finally:
                machine.ssh(f"for home in {homes}; do rm -f $home/.npmrc; done")
                tunnel.terminate()


def test_ctrl_c_during_the_installation(machine_with_older: Machine, typist: Operator) -> None:
    """Ctrl-C while the new version is installed says how to go on, and --back puts the old version and state back."""
    machine, before = machine_with_older, machine_with_older.ssh(f"cat {RECORD}")
    machine.ssh(f"install -o openclaw -m 600 /dev/null {PLANTED} && echo kestrel >{PLANTED}")
    words = [sys.executable, "-P", str(ROOT / "swarm" / "__main__.py"), "upgrade", "--host", "demo", "--yes"]
    with subprocess.Popen(typist.world.inside(*words), cwd=ROOT, stderr=subprocess.PIPE) as running:
        machine.until("pgrep -u openclaw -f 'pnpm.* add '", "the new version is being installed", limit=300)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=300)
    assert running.returncode == 130, said
    assert b"--back" in said, said
    assert b"Traceback" not in said
    machine.ssh(f"echo lost >{PLANTED}")
    back = typist.inv("upgrade", "--host", "demo", "--back", "--yes")
    assert back.code == 0, back.err
    assert machine.ssh(f"cat {RECORD}") == before
    assert machine.ssh(f"cat {PLANTED}") == "kestrel\n"
    assert json.loads(machine.ssh("curl -fsS http://127.0.0.1:18789/readyz"))["ready"] is True
    assert [each["result"] for each in history.entries("demo", "upgrade")] == ["went back"]
    assert "no upgrade is unfinished" in typist.inv("upgrade", "--host", "demo", "--back", "--yes").err


def test_a_version_that_starts(machine_with_older: Machine, typist: Operator) -> None:
    """The plan names both versions and changes nothing. The upgrade backs up, installs, verifies. Then all is done."""
    *_, older, newest = releases("openclaw")
    planned = typist.inv("upgrade", "--host", "demo", "--plan")
    assert planned.code == 0, planned.err
    assert f"{older} → {newest}" in planned.err
    assert "are put back" in planned.err
    assert machine_with_older.ssh(f"head -n1 {RECORD}") == f"version {older}\n"
    refused = typist.inv("upgrade", "--host", "demo")
    assert (refused.code, "--yes upgrades without a question" in refused.err) == (1, True), refused.err
    done = typist.inv("upgrade", "--host", "demo", "--yes", "--json")
    assert done.code == 0, done.err
    [told] = json.loads(done.out)
    assert (told["from"], told["to"], told["changed"], told["error"]) == (older, newest, True, None)
    record = machine_with_older.ssh(f"cat {RECORD}")
    assert record.startswith(f"version {newest}\nchannel latest\nintegrity sha512-")
    assert json.loads(machine_with_older.ssh("curl -fsS http://127.0.0.1:18789/readyz"))["ready"] is True
    archives = len(Catalog("demo", load("demo").backup).names())
    assert archives == 1
    again = typist.inv("upgrade", "--host", "demo")
    assert again.code == 0, again.err
    assert "nothing to do" in again.err
    assert len(Catalog("demo", load("demo").backup).names()) == archives
    assert [each["result"] for each in history.entries("demo", "upgrade")] == ["upgraded"]


def test_one_that_does_not_start(machine_with_older: Machine, typist: Operator, tmp_path: Path) -> None:
    """If the gateway of the new version exits, the old version, its record and the state are back, and stay there."""
    machine = machine_with_older
    record = machine.ssh(f"cat {RECORD}")
    old = record.split()[1]
    machine.ssh(f"install -o openclaw -m 600 /dev/null {PLANTED} && echo kestrel >{PLANTED}")
    with broken_release(machine, tmp_path, f"{old}-broken.1"):
        failed = typist.inv("upgrade", "--host", "demo", "--yes")
    assert failed.code == 1, failed.err
    assert f"the upgrade to {old}-broken.1 failed, and OpenClaw {old} and its state are back" in failed.err
    assert "Traceback" not in failed.err
    assert machine.ssh(f"cat {RECORD}") == record
    assert machine.ssh(f"cat {PLANTED}") == "kestrel\n"
    assert json.loads(machine.ssh("curl -fsS http://127.0.0.1:18789/readyz"))["ready"] is True
    again = typist.inv("install", "--host", "demo")
    assert (again.code, again.err) == (0, "nothing to do\n")
    assert [each["result"] for each in history.entries("demo", "upgrade")] == ["went back"]
    nothing = typist.inv("upgrade", "--host", "demo", "--back", "--yes")
    assert nothing.code == 1
    assert "no upgrade is unfinished" in nothing.err
