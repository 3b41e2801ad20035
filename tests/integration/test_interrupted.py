"""Ctrl-C while several hosts run side by side: each host cleans up, as a single one would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.paths import ROOT
from swarm.ssh.guest import Guest
from tests.integration.restored import contents, make_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Dirs
    from tests.sshd import Sshd

NAMES = ("ant", "bee", "cat")
SLACK = 60.0  # seconds that a loaded machine may need
# Runs verb() for each host as a task of ./inv does. `folder` is where the test and the verbs leave each other notes.
BEGINNING = """
import subprocess, sys
from pathlib import Path
from invoke import Context
from invoke.exceptions import Exit
from swarm.commands.run import Selection, run
from swarm.deadline import Deadline
from swarm.front.process import begin, leave
from swarm.front.task import task
from swarm.inventory import load_all
from swarm.ssh.config import part_path
from swarm.ssh.guest import Guest

folder = Path(sys.argv[1])
def guest(host):
    return Guest(part_path(f"guest-{host}"), f"guest-{host}")
"""
END = """
@task
def main(context):
    run(Selection(load_all()), verb, at_once=2)

begin()
try:
    main(Context())
except Exit as end:
    leave(end.code)
"""
WAITS = {
    "command": "guest(host.name).run(f'touch {begun}; sleep 300')",
    "script": "guest(host.name).script(f'touch {begun}; sleep 300', str).join()",
    "program": "subprocess.run(['sh', '-c', f'touch {begun}; exec sleep 300'], check=True)",
    "pause": "begun.touch()\n        while Deadline(300).pause(0.1): pass",
}
VERB = """
def verb(host, talk):
    begun = folder / f"begun-{host.name}"
    try:
        WAIT
    finally:
        CLEAN
        guest(host.name).run(f"touch {folder}/cleaned-{host.name}")
"""
RESTORE = """
from dataclasses import dataclass
from swarm.text import quote
from tests.integration.restored import Place, make_place
from dataclasses import replace

@dataclass
class Gateway:
    host: str
    mark: Path  # it is there while the gateway runs
    slow: Path

    def stop(self):
        self.mark.unlink(missing_ok=True)
        return True

    def start(self):
        if not self.slow.exists():
            guest(self.host).run(f"touch {quote(str(self.slow))}; sleep 300")
        self.mark.touch()

def verb(host, talk):
    from swarm.backup.restore import restore
    from tests.integration.restored import manifest_of
    own = folder / host.name
    place = Place(guest(host.name), own / "the home", own / "the mirror")
    gateway = Gateway(host.name, own / "gateway", folder / f"begun-{host.name}")
    restore(replace(place.target, service=gateway), place.mirror, manifest_of(place.mirror), place.settings, talk)
"""


@pytest.fixture
def folder(server: Sshd, keys: Path, dirs: Dirs, tmp_path: Path) -> Iterator[Path]:
    """A folder for the notes. There are three host files, and each host has a connection of its own."""
    text = (ROOT / "hosts/demo.yaml").read_text(encoding="utf-8")
    for number, name in enumerate(NAMES):
        own = text.replace("demo", name).replace("de:30", f"de:4{number}").replace("122.30", f"122.4{number}")
        (dirs.hosts / f"{name}.yaml").write_text(own, encoding="utf-8")
        ssh.write_config(server.target(tmp_path / f"{name}.known_hosts", keys, name=f"guest-{name}"))
    yield tmp_path
    for name in NAMES:
        guest(name).close()


def guest(name: str) -> Guest:
    """Return the guest of a host."""
    return Guest(ssh.part_path(f"guest-{name}"), f"guest-{name}")


@contextmanager
def running(folder: Path, verb: str) -> Iterator[subprocess.Popen[str]]:
    """Run a verb for the three hosts, in a process group of its own, until two of them wait."""
    program = [sys.executable, "-P", "-c", BEGINNING + verb + END, str(folder)]
    with subprocess.Popen(
        program,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "."},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        process_group=0,
    ) as child:
        try:
            wait_until(lambda: child.poll() is not None or len(noted(folder, "begun")) == 2)
            yield child
        finally:
            child.kill()


def wait_until(true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    limit = time.monotonic() + SLACK
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.01)


def noted(folder: Path, word: str) -> list[str]:
    """Return the hosts that left a note."""
    return sorted(path.name.partition("-")[2] for path in folder.glob(f"{word}-*"))


@pytest.mark.parametrize(
    ("send", "number", "sentence"),
    [
        (os.kill, signal.SIGINT, "interrupted"),
        (os.killpg, signal.SIGINT, "interrupted"),
        (os.kill, signal.SIGTERM, "stopped by SIGTERM"),
    ],
    ids=["SIGINT", "terminal", "SIGTERM"],
)
@pytest.mark.parametrize("wait", WAITS)
def test_every_host_cleans_up(
    folder: Path,
    wait: str,
    send: Callable[[int, int], None],
    number: signal.Signals,
    sentence: str,
) -> None:
    """At Ctrl-C every host that runs cleans up over its connection, whatever it waits for, and no other host begins."""
    with running(folder, VERB.replace("WAIT", WAITS[wait]).replace("CLEAN", "")) as child:
        send(child.pid, number)
        _, shown = child.communicate(timeout=SLACK)
    assert noted(folder, "cleaned") == noted(folder, "begun") == ["ant", "bee"], shown
    assert child.returncode == 128 + number
    assert shown.endswith(f"error: {sentence}\n  hint: run the same command again to continue\n")
    assert "Traceback" not in shown


def test_a_second_ctrl_c_leaves_at_once(folder: Path) -> None:
    """While hosts clean up, their names and the way out are shown, and the next Ctrl-C ends the command."""
    with running(
        folder, VERB.replace("WAIT", WAITS["command"]).replace("CLEAN", "guest(host.name).run('sleep 300')")
    ) as child:
        assert child.stderr is not None
        child.send_signal(signal.SIGINT)
        line = child.stderr.readline()
        assert line == "waiting for ant, bee to clean up; press Ctrl-C again to leave at once\n"
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=SLACK)
    assert child.returncode == 128 + signal.SIGINT
    assert noted(folder, "cleaned") == []


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other accounts")
@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["SIGINT", "terminal"])
def test_interrupted_restores_put_every_guest_back(folder: Path, send: Callable[[int, int], None]) -> None:
    """Ctrl-C between the swap and the gateway's start leaves each guest's state and gateway as they were."""
    places = [make_place(guest(name), folder / name) for name in ("ant", "bee")]
    before = [contents(place.state) for place in places]
    marks = [folder / name / "gateway" for name in ("ant", "bee")]
    for mark in marks:
        mark.touch()
    with running(folder, RESTORE) as child:
        assert [contents(place.state) == contents(place.mirror) for place in places] == [True, True]
        send(child.pid, signal.SIGINT)
        _, shown = child.communicate(timeout=SLACK)
    assert child.returncode == 128 + signal.SIGINT, shown
    assert [contents(place.state) for place in places] == before
    assert [mark.exists() for mark in marks] == [True, True]
    assert shown.count("; the old state is back") == 2, shown
