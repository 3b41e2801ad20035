"""Connections that begin before it is known whether they will be needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.ssh import early

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from swarm.ssh.remote import Remote
    from tests.conftest import Dirs
    from tools.lab import Machine

pytestmark = pytest.mark.slow


@pytest.fixture
def part(dirs: Dirs, machine: Machine) -> Path:
    """The machine's part of swarm's own SSH configuration, as an earlier command has left it."""
    path = ssh.part_path(machine.alias)
    path.parent.mkdir(parents=True)
    path.write_text(machine.config.read_text(), encoding="utf-8")
    assert path.is_relative_to(dirs.state)
    return path


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Remote]]:
    """What was begun; ended after the test."""
    found: dict[str, Remote] = {}
    monkeypatch.setattr(early, "_begun", found)
    yield found
    for remote in found.values():
        remote.close()


@pytest.mark.parametrize(
    "words", [["--plan", "--host", "{}"], ["--host={},gone"], ["--host", "gone,{}", "--json"]]
)
def test_a_host_of_the_command_line_is_connected_to(
    part: Path, machine: Machine, begun: dict[str, Remote], words: list[str]
) -> None:
    """However --host is written, the hosts that were reached before are connected to, and the verb then uses that connection."""
    early.connect([word.format(machine.alias) for word in words])
    assert list(begun) == [machine.alias]
    expected = begun[machine.alias]
    remote = early.remote(part, machine.alias)
    assert remote is expected
    assert remote.run("echo here").text == "here\n"
    remote.close()


@pytest.mark.parametrize(
    "words", [["--host", "{}", "--help"], ["--host"], ["--host", "../hosts/{}"], ["{}"], ["--host", "all"]]
)
def test_nobody_is_connected_to_without_need(
    part: Path, machine: Machine, begun: dict[str, Remote], words: list[str]
) -> None:
    """Help needs no connection, and what is no list of names leads nowhere."""
    assert part.is_file()
    early.connect([word.format(machine.alias) for word in words])
    assert not begun


@pytest.mark.parametrize("what", ["address", "pin"])
def test_a_connection_to_what_was_there_before_is_not_used(
    part: Path, machine: Machine, begun: dict[str, Remote], what: str
) -> None:
    """If the host file now leads elsewhere, or another key is pinned, what was begun is given up."""
    pins = part.with_name("pins")
    pins.write_text((machine.world.folder / f"{machine.alias}.known_hosts").read_text(), encoding="utf-8")
    text = part.read_text(encoding="utf-8").replace(
        str(machine.world.folder / f"{machine.alias}.known_hosts"), str(pins)
    )
    part.write_text(text, encoding="utf-8")
    early.connect(["--host", machine.alias])
    given_up = begun[machine.alias]
    if what == "address":
        part.write_text(text.replace("HostName ", "HostName 127.0.0.1 # "), encoding="utf-8")
    else:
        ssh.pin(pins, [machine.alias], ssh.keypair("other")[1])
    remote = early.remote(part, machine.alias)
    assert remote is not given_up
    assert given_up._waiting is None  # noqa: SLF001 - that nothing of it runs on
    assert not begun
    given_up.close()
