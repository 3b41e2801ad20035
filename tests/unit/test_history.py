"""What swarm remembers about a host over time survives damage, stays small, and stays private."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from swarm import history

if TYPE_CHECKING:
    from tests.conftest import Dirs


@pytest.mark.usefixtures("dirs")
def test_entries_come_back_in_order() -> None:
    """What was added is found again, all of it or by kind, the oldest first."""
    history.append("zap", "backup", at=10, result="success", stored=7)
    history.append("zap", "drill", at=20, result="failure")
    assert history.entries("zap") == [
        {"kind": "backup", "at": 10, "result": "success", "stored": 7},
        {"kind": "drill", "at": 20, "result": "failure"},
    ]
    assert [each["at"] for each in history.entries("zap", "drill")] == [20]
    assert history.entries("other") == []


@pytest.mark.usefixtures("dirs")
def test_the_file_is_private() -> None:
    """Only its owner can read a history, also after it was trimmed."""
    for number in range(460):
        history.append("zap", "backup", at=number)
    assert stat.S_IMODE(history.path("zap").stat().st_mode) == 0o600
    assert stat.S_IMODE(history.path("zap").parent.stat().st_mode) == 0o700


@pytest.mark.usefixtures("dirs")
def test_a_history_stays_small() -> None:
    """The newest 400 entries remain, and those about health displace no backup."""
    for number in range(300):
        history.append("zap", "backup", at=number)
    for number in range(600):
        history.append("zap", "health", at=1000 + number)
    found = history.entries("zap")
    assert len(found) <= 400
    assert len([each for each in found if each["kind"] == "health"]) == 168
    assert [each["at"] for each in found if each["kind"] == "backup"] == list(range(68, 300))
    assert len(history.path("zap").read_text(encoding="utf-8").splitlines()) <= 450


@pytest.mark.parametrize(
    "damage",
    [b"\xff\xfe\n", b'{"kind": "backup"}\n', b"[" * 20_000 + b"\n", b'{"kind": 1, "at": 2}\n', b'{"kind": "x", "at"',
     b'{"kind": "x", "at": NaN}\n', b'{"kind": "x", "at": true}\n', b"\n\n"],
    ids=["bytes", "no time", "deep", "kind", "torn", "NaN", "bool", "empty"],
)  # fmt: skip
def test_a_damaged_line_is_skipped(damage: bytes, dirs: Dirs) -> None:
    """A damaged line, also a torn one at the end, hides neither the entries before it nor those after it."""
    assert dirs.state.is_dir()
    history.append("zap", "backup", at=1)
    with history.path("zap").open("ab") as file:
        file.write(damage)
    history.append("zap", "backup", at=2)
    assert [each["at"] for each in history.entries("zap")] == [1, 2]


def test_a_history_that_cannot_be_written_ends_nothing(dirs: Dirs) -> None:
    """A history is a convenience: no error reaches the backup that would have been remembered."""
    (dirs.state / "history").write_text("in the way", encoding="utf-8")
    history.append("zap", "backup", at=1)
    assert history.entries("zap") == []


@pytest.mark.usefixtures("dirs")
def test_recent_entries_are_recognized() -> None:
    """An entry counts as recent within the period, and one from the future never does."""
    history.append("zap", "health", at=1000)
    assert history.recently("zap", "health", 60, 1059)
    assert not history.recently("zap", "health", 60, 1060)
    assert not history.recently("zap", "health", 60, 999)
    assert not history.recently("zap", "backup", 60, 1001)
