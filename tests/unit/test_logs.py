"""What each host said is kept in its log, whatever was shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from swarm import inventory
from swarm.commands.run import Selection, run
from swarm.errors import Refused
from swarm.logs import Log, path_of
from swarm.paths import ROOT

if TYPE_CHECKING:
    from swarm.console import Talk
    from swarm.inventory import Host
    from tests.conftest import Dirs


def demo(dirs: Dirs) -> Host:
    """Return the host demo."""
    (dirs.hosts / "demo.yaml").write_text((ROOT / "hosts/demo.yaml").read_text("utf-8"), encoding="utf-8")
    return inventory.load("demo")


def test_what_a_host_said_is_kept(dirs: Dirs) -> None:
    """The log has the command, each line with its time, and the error, also if nothing was shown."""

    def verb(_: Host, talk: Talk) -> None:
        talk.say("looking [here]")
        with talk.step("working"):
            talk.warn("odd \x1b[2J")
        raise Refused("no more", "try later")

    run(Selection([demo(dirs)]), verb, quiet=True)
    text = path_of("demo").read_text(encoding="utf-8")
    assert path_of("demo").stat().st_mode & 0o777 == 0o600
    lines = text.splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in lines)
    command, *said = [line[21:] for line in lines]
    assert command.startswith("$ inv ")
    assert said.pop(2).startswith("✓ working")
    assert said == ["looking [here]", r"note: odd \x1b[2J", "error: no more", "hint: try later"]


@pytest.mark.usefixtures("dirs")
def test_a_long_log_is_moved_aside() -> None:
    """A log of more than 1 MiB is moved to NAME.log.1, so that two of them are kept at most."""
    path = path_of("zap")
    Log("zap").line("first")
    path.write_text("x" * (1 << 20) + "y\n")
    Log("zap").line("second")
    assert path.with_name("zap.log.1").read_text().endswith("y\n")
    assert "second" in path.read_text()
    assert path.stat().st_size < 1000


@pytest.mark.usefixtures("dirs")
def test_any_command_can_be_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument that is not UTF-8 ends no run, and one with a line break is still one line of the log."""
    monkeypatch.setattr("sys.argv", ["./inv", "restore", "--path", "caf\udce9\nx"])
    Log("zap").line("restored")
    command, said = path_of("zap").read_text(encoding="utf-8").splitlines()
    assert command.endswith(r"$ inv restore --path 'caf\udce9\nx'")
    assert said.endswith("Z restored")


def test_a_log_that_cannot_be_written_ends_nothing(dirs: Dirs) -> None:
    """Without a place for its log, a run goes on. A link in the log's place is not followed."""
    other = dirs.state / "other"
    other.write_text("kept")
    (dirs.state / "logs").mkdir()
    path_of("zap").symlink_to(other)
    Log("zap").line("lost")
    assert other.read_text() == "kept"
