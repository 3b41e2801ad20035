"""Connections that are started before the command knows whether it needs them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.deadline import Deadline
from swarm.ssh import early
from tools.lab.process import arguments, children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Dirs
    from tools.lab import Machine

pytestmark = pytest.mark.slow


@pytest.fixture
def part(dirs: Dirs, machine: Machine) -> Iterator[Path]:
    """The machine's part of swarm's own SSH configuration, as an earlier command has written it."""
    path = ssh.part_path(machine.alias)
    path.parent.mkdir(parents=True)
    path.write_text(machine.config.read_text(), encoding="utf-8")
    assert path.is_relative_to(dirs.state)
    yield path
    early.link(path, machine.alias).close()


@pytest.fixture
def connecting(machine: Machine) -> Callable[[], list[int]]:
    """A function that returns this test's ssh processes for the machine."""

    def look() -> dict[int, list[str]]:
        alive = [pid for pid in children(os.getpid()) if state(pid) != "Z"]
        return {pid: arguments(pid) for pid in alive}

    def state(pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
        except OSError:  # it has ended
            return "Z"

    def find() -> list[int]:
        deadline = Deadline(5)
        words = look()
        # While a program is being loaded, its process has no arguments yet.
        while any(not argv for argv in words.values()) and deadline.pause(0.01):
            words = look()
        return [pid for pid, argv in words.items() if argv[:1] == ["ssh"] and machine.alias in argv]

    return find


@pytest.mark.parametrize(
    "words", [["--plan", "--host", "{}"], ["--host={},gone"], ["--host", "gone,{}", "--json"]]
)
def test_named_hosts_are_connected_early(
    part: Path, machine: Machine, connecting: Callable[[], list[int]], words: list[str]
) -> None:
    """Each known host in any spelling of --host is connected early, and the command uses that connection."""
    early.connect([word.format(machine.alias) for word in words])
    begun = connecting()
    assert len(begun) == 1
    link = early.link(part, machine.alias)
    link.connect()
    assert connecting() == begun
    guest = ssh.Guest(part, machine.alias, link=link)
    assert guest.run("echo here").stdout == "here\n"
    assert connecting() == []
    guest.close()


@pytest.mark.parametrize(
    "words", [["--host", "{}", "--help"], ["--host"], ["--host", "../hosts/{}"], ["{}"], ["--host", "all"]]
)
def test_no_early_connection_without_need(
    part: Path, machine: Machine, connecting: Callable[[], list[int]], words: list[str]
) -> None:
    """Help starts no connection, and neither does an option that is not a list of host names."""
    assert part.is_file()
    early.connect([word.format(machine.alias) for word in words])
    assert connecting() == []


@pytest.mark.parametrize("what", ["address", "pin"])
def test_an_outdated_early_connection_is_given_up(
    part: Path, machine: Machine, connecting: Callable[[], list[int]], what: str
) -> None:
    """The early connection ends if the host file has a new address or another key is pinned."""
    pins = part.with_name("pins")
    known = machine.world.folder / f"{machine.alias}.known_hosts"
    pins.write_text(known.read_text(), encoding="utf-8")
    text = part.read_text(encoding="utf-8").replace(str(known), str(pins))
    part.write_text(text, encoding="utf-8")
    early.connect(["--host", machine.alias])
    assert len(connecting()) == 1
    if what == "address":
        part.write_text(text.replace("HostName ", "HostName 127.0.0.1 # "), encoding="utf-8")
    else:
        ssh.pin(pins, [machine.alias], ssh.keypair("other")[1])
    early.link(part, machine.alias)
    assert connecting() == []
