"""The lab that boots the machines: it replaces broken ones, cleans up after killed runs, and explains failures."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm.deadline import Deadline
from tools.lab import Keeper, LabError, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.nspawn.installed import Installed
    from tools.lab import Machine

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KILLED_RUN = """
import time
from tools.lab import World
world = World()
machine = world.machine()
print(world.folder, world.name, machine.netns, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def own(world: World) -> Iterator[Keeper]:
    """A pool of machines for these tests alone. They end with the last one."""
    made: list[Machine] = []

    def make() -> Machine:
        made.append(world.machine())
        return made[-1]

    yield Keeper(make)
    for machine in made:
        if machine in world.machines:
            world.discard(machine)


def groups(namespace: str) -> list[Path]:
    """Return the control groups of a machine."""
    return [*Path("/sys/fs/cgroup").glob(f"**/swarm-{namespace}")]


def test_a_healthy_machine_is_kept(own: Keeper) -> None:
    """A healthy machine is reused."""
    assert own.get() is own.get()


def test_a_machine_that_ended_is_replaced(own: Keeper) -> None:
    """After a machine has powered itself off, the next one is new and answers; nothing of the first is left."""
    first = own.get()
    with contextlib.suppress(LabError):  # the connection may break before the command is done
        first.ssh("systemctl poweroff")
    second = own.get()
    assert second is not first
    assert second.ssh("systemctl is-system-running") == "running\n"
    assert not first.root.exists()
    assert not Path("/run/netns", first.netns).exists()
    assert not groups(first.netns)


def test_after_a_failed_test_the_machine_is_replaced(own: Keeper) -> None:
    """A healthy machine is replaced too if a test has failed since it was given out."""
    first = own.get(0)
    second = own.get(1)
    assert second is not first
    assert own.get(1) is second


def test_machines_have_their_own_control_groups(own: Keeper, machine: Machine) -> None:
    """The processes of one machine are in no control group of another, so that its systemd does not wait for them."""
    assert own.get(1).netns != machine.netns
    listed = machine.ssh("cat $(find /sys/fs/cgroup -path '*/ssh.service/cgroup.procs')").split()
    assert listed
    assert "0" not in listed  # a process outside the reader's PID namespace


def test_an_unreachable_machine_explains_itself(own: Keeper) -> None:
    """When a machine can't be reached, the error names the wait and shows ssh's output and the machine's journal."""
    machine = own.get(1)
    machine.ssh("systemctl stop ssh.service ssh.socket; logger -t lab the cable is fine")
    with pytest.raises(LabError, match=r"(?s)was not up within 5 s; .*Connection refused.*the cable is fine"):
        machine.wait(5)


def test_a_condition_that_never_comes_explains_itself(machine: Machine) -> None:
    """When a condition is not met in time, the error names it and contains the last output of its command."""
    with pytest.raises(LabError, match=r"(?s)within 1 s: the impossible happens: .*not yet"):
        machine.until("echo not yet; false", "the impossible happens", 1)


def test_a_command_has_a_time_limit(machine: Machine) -> None:
    """A command that does not end is killed, and the error contains its output."""
    with pytest.raises(LabError, match=r"timed out after 5 s: begun"):
        machine.ssh("echo begun; sleep 600", limit=5)


def test_leftovers_of_a_killed_run_are_removed() -> None:
    """The next run ends the machines of a run that was killed, and removes its networks, its groups and its files."""
    command = [sys.executable, "-c", KILLED_RUN]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        folder, name, namespace = run.stdout.readline().split()
        assert Path(folder, "root0").is_dir()
        with World():
            assert Path("/run/netns", name).exists()  # its owner is alive
        run.kill()
    with World():
        assert not Path(folder).exists()
    assert not Path("/run/netns", name).exists()
    assert not Path("/run/netns", namespace).exists()
    assert not groups(namespace)
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if folder in path.read_text()]


def test_hung_way_out(installed: Installed) -> None:
    """A pasta that stops responding is replaced, so that a machine finds the registries again."""
    machine = installed.bare()
    assert machine.way_out
    before = machine.way_out.pid
    os.kill(before, signal.SIGSTOP)
    limit = Deadline(120)
    while machine.way_out.pid in {0, before}:
        assert limit.pause(0.5), "the pasta that hangs was not replaced"
    machine.ssh("ip route get 1.1.1.1 && grep -q nameserver /etc/resolv.conf")
