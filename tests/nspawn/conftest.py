"""A booted machine for the tests of this folder; where systemd-nspawn can't run, they are skipped with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm.console import Screen, Talk
from tests.nspawn.machine import Machine, World, missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.ssh.remote import Remote

SWAPPINESS = Path("/proc/sys/vm/swappiness")


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """The network of the machines. vm.swappiness is the one setting that they share with this computer: it is put back."""
    if lacking := missing():
        pytest.skip(f"systemd-nspawn machines need {', '.join(lacking)}")
    before = SWAPPINESS.read_text()
    with World() as made:
        yield made
    SWAPPINESS.write_text(before)


@pytest.fixture(scope="session")
def machine(world: World) -> Machine:
    """One bare machine for all the tests that don't need a fresh one."""
    return world.machine()


@pytest.fixture
def remote(machine: Machine) -> Iterator[Remote]:
    """A connection to the machine as root."""
    made = machine.remote()
    yield made
    made.close()


@pytest.fixture
def talk() -> Talk:
    """What a person would see goes to standard error, which pytest keeps."""
    return Talk(Screen())
