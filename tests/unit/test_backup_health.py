"""What `inv status` and Prometheus learn about backups, and how the record survives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from swarm.backup import record
from swarm.backup.health import ago, health
from swarm.backup.manifest import Sums
from swarm.backup.monitor import Monitor, metrics
from swarm.backup.record import Record
from swarm.console import Talk, screen
from swarm.errors import CommandFailed, VerificationFailed
from swarm.inventory import BackupSettings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Dirs

NOW = 1_790_000_000.0
HOUR, DAY = 3600.0, 86400.0


def test_a_backup_does_not_wait_for_what_its_commands_leave_running(tmp_path: Path) -> None:
    """A command of `before` may start a tunnel in the background, whose output nobody closes."""
    go, late = tmp_path / "go", tmp_path / "late"
    left = f"for _ in $(seq 600); do [ ! -e {go} ] || exit; sleep 0.1; done; touch {late}"
    Monitor("zap", BackupSettings(before=(f"({left}) &",)), Talk(screen(), quiet=True)).start()
    assert not late.exists()
    go.touch()


@pytest.mark.parametrize(
    ("line", "words"), [("echo out; echo err >&2; exit 3", "err"), ("printf %500s out; exit 3", "out")]
)
def test_a_command_that_fails_is_quoted(line: str, words: str) -> None:
    """The error of a command that failed shows what it has printed last, on standard error if it has."""
    settings = BackupSettings(before=("true", line))
    with pytest.raises(CommandFailed, match=r"backup\.before, command 2 failed with exit code 3") as caught:
        Monitor("zap", settings, Talk(screen(), quiet=True)).start()
    assert caught.value.hint == words


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Record(), ""),
        (Record(started=NOW - 5), "✗ interrupted"),
        (Record(result="success", ended=NOW - 5 * HOUR, succeeded=NOW - 5 * HOUR), "ok, 5 h ago"),
        (Record(result="warning", ended=NOW - 5 * HOUR, succeeded=NOW - 5 * HOUR), "warning, 5 h ago"),
        (Record(result="failure", ended=NOW - 3 * HOUR, succeeded=NOW - DAY), "✗ failed 3 h ago"),
        (Record(result="success", ended=NOW - 3 * DAY, succeeded=NOW - 3 * DAY), "✗ last one 3 d ago"),
        (Record(result="success", ended=NOW + 590, succeeded=NOW + 590), "ok, 0 s ago"),
        (
            Record(result="success", ended=NOW + 3 * DAY, succeeded=NOW + 3 * DAY),
            "✗ last one dated 3 d in the future: check the clock",
        ),
        (
            Record(result="success", succeeded=NOW - HOUR, drill={"result": "failure", "ended": NOW - DAY}),
            "✗ the drill failed 24 h ago",
        ),
        (
            Record(
                result="success", succeeded=NOW - HOUR, drill={"result": "success", "ended": NOW - 4 * DAY}
            ),
            "ok, 60 min ago, drill 4 d ago",
        ),
    ],
)
def test_health_in_words(found: Record, words: str) -> None:
    """A failed, interrupted, overdue or future-dated backup and a failed drill are marked with ✗. Nothing else is."""
    assert health(found, NOW) == words


@pytest.mark.parametrize(
    ("passed", "words"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 d"), (-5, "0 s")],
)
def test_durations_are_coarse(passed: float, words: str) -> None:
    """A duration is told in its largest unit of which there are at least two."""
    assert ago(passed) == words


def test_metrics_are_in_the_text_format() -> None:
    """Each metric has a help line, a type and one value with the host as label."""
    found = Record(started=10, ended=15, succeeded=15, result="success", stored=7)
    found.note("zap-20260101t000000z", Sums("00", "11"), "file:///a", "content")
    lines = metrics("zap", found).splitlines()
    assert lines[1] == "# TYPE swarm_backup_last_run_timestamp_seconds gauge"
    values = dict(line.split(" ") for line in lines if not line.startswith("#"))
    assert values['swarm_backup_last_duration_seconds{host="zap"}'] == "5"
    assert values['swarm_backup_verified_archives{host="zap"}'] == "1"
    assert values['swarm_backup_last_result{host="zap"}'] == "0"


def test_the_record_survives(dirs: Dirs) -> None:
    """What is saved is loaded again, and only the user can read the file."""
    assert dirs.state.exists()
    found = Record(
        dirty=False, archive="zap-20260101t000000z", snapshots={"a.sqlite": [1, 2]}, plain=["b.db"]
    )
    found.note("zap-20260101t000000z", Sums("00", "11"), "file:///a", "ciphertext")
    record.save("zap", found)
    assert record.load("zap") == found
    assert (record.folder("zap") / "record.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "[]", "{", '{"archives": []}', '{"dirty": "no"}'])
def test_a_damaged_record_is_refused(dirs: Dirs, text: str) -> None:
    """A damaged record is an error that names the file. It is never taken for an empty one."""
    assert dirs.state.exists()
    (record.folder("zap") / "record.json").write_text(text, encoding="utf-8")
    with pytest.raises(VerificationFailed, match=r"record\.json is damaged"):
        record.load("zap")


def test_an_archive_is_forgotten_at_one_destination() -> None:
    """An archive that is removed from one destination is still known at the other."""
    found = Record()
    for place in ("file:///a", "file:///b"):
        found.note("zap-20260101t000000z", Sums("00", "11"), place, "content")
    found.forget("zap-20260101t000000z", "file:///a")
    assert found.verified("zap-20260101t000000z", "file:///a") is None
    assert found.verified("zap-20260101t000000z", "file:///b") == "content"
    found.forget("zap-20260101t000000z", "file:///b")
    assert not found.archives
