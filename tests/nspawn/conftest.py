"""A booted machine for the tests of this folder. Where systemd-nspawn can't run, they are skipped with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm.console import Screen, Talk
from swarm.locks import hold
from tests.nspawn.at_the_prompt import Operator
from tests.nspawn.installed import Installed, NextRelease
from tools.lab import Keeper, Machine, World, missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.ssh.guest import Guest
    from tests.conftest import Dirs

SWAPPINESS = Path("/proc/sys/vm/swappiness")
LOCKS = Path("/var/cache/swarm-tests")  # only root has machines


@pytest.fixture(scope="package")
def world() -> Iterator[World]:
    """The network of the machines. They share one setting with this computer, vm.swappiness, which is restored.

    So only one test session at a time has machines: another one's end would change the setting under this one.
    """
    if lacking := missing():
        pytest.skip(f"systemd-nspawn machines need {', '.join(lacking)}")
    LOCKS.mkdir(parents=True, exist_ok=True)
    with hold(LOCKS / "machines.lock"):
        before = SWAPPINESS.read_text()
        try:
            with World() as made:
                yield made
        finally:
            SWAPPINESS.write_text(before)


@pytest.fixture(scope="package")
def keeper(world: World) -> Keeper:
    """The pool that provides the machine of most tests."""
    return Keeper(world.machine)


@pytest.fixture(scope="package")
def installed(world: World) -> Installed:
    """The pool that provides the machine of test_install*.py: first bare, then with everything installed."""
    return Installed(Keeper(lambda: world.machine(internet=True)))


@pytest.fixture(scope="package")
def next_release(world: World) -> NextRelease:
    """The machine of Debian 13 with the release of OpenClaw before the newest."""
    return NextRelease(world)


@pytest.fixture
def machine(keeper: Keeper, request: pytest.FixtureRequest) -> Machine:
    """A healthy bare machine, shared with other tests. Once a test has failed, the next one gets a new machine."""
    return keeper.get(request.session.testsfailed)


@pytest.fixture
def guest(machine: Machine) -> Iterator[Guest]:
    """A connection to the machine as root."""
    made = machine.guest()
    yield made
    made.close()


@pytest.fixture
def talk() -> Talk:
    """The messages to the user. They go to standard error, which pytest captures."""
    return Talk(Screen())


@pytest.fixture
def operator(world: World, machine: Machine, dirs: Dirs) -> Iterator[Operator]:
    """A user whose own key every machine accepts, with the host file demo."""
    made = Operator.make(world, dirs)
    made.add("demo", machine)
    machine.ssh("id openclaw >/dev/null 2>&1 || useradd -m openclaw")
    yield made
    made.close()
