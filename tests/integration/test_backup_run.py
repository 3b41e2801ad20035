"""Whole runs of a backup: archives, retention, records, pings, and what goes wrong in between."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from swarm.backup import record
from swarm.backup.catalog import Catalog
from swarm.backup.directory import Directory
from swarm.backup.mirror import Source
from swarm.backup.monitor import ping
from swarm.backup.now import back_up
from swarm.backup.recover import from_archive
from swarm.console import Talk, screen
from swarm.errors import CommandFailed, Refused, SwarmError, UsageError, VerificationFailed
from swarm.paths import ROOT
from tests.integration.guest_state import archive_names, run_backup, touch
from tests.integration.switch import switch
from tests.state import snapshot_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Dirs
    from tests.integration.guest_state import Place

KILLED = 20  # runs that are killed at random points
CHILD = """
import sys
from pathlib import Path
from swarm.backup.mirror import Source
from swarm.backup.now import back_up
from swarm.console import Talk, screen
from tests.integration.guest_state import Place
place = Place.load(sys.argv[1])
source = Source(place.guest().link, place.host, None, place.user, str(place.state))
back_up(source, place.settings, Talk(screen(), quiet=True))
"""


def catalog(place: Place, identity: Path | None = None) -> Catalog:
    """Return the guest's archives."""
    return Catalog(place.host, place.settings, identity)


def test_an_archive_is_made_once(place: Place, dirs: Dirs) -> None:
    """The first run makes a verified archive. The next one finds it current and adds nothing."""
    first = run_backup(place)
    assert (first.exit_code, set((first.verified or {}).values())) == (0, {"content"})
    second = run_backup(place)
    assert (second.changed, second.current) == (False, first.archive)
    assert archive_names(place) == [first.archive]
    assert sorted(path.name.partition(".")[2] for path in dirs.backups.iterdir()) == [
        "manifest.json.zst",
        "summary.json",
        "summary.json.sig",
        "tar.zst",
    ]


def test_an_archive_restores_what_was_backed_up(place: Place) -> None:
    """The newest archive unpacks to the same tree as the mirror, database and all."""
    run_backup(place)
    with from_archive(catalog(place), "latest", Talk(screen(), quiet=True)) as origin:
        assert snapshot_of(origin.tree) == snapshot_of(place.mirror)
        assert origin.manifest.databases.keys() == record.load(place.host).databases.keys()


def test_a_lost_archive_is_made_again(place: Place, dirs: Dirs) -> None:
    """If somebody deletes the current archive, the next run makes another, though the guest is unchanged."""
    run_backup(place)
    for path in dirs.backups.iterdir():
        path.unlink()
    assert run_backup(place).archive


@pytest.mark.parametrize("part", ["archive", "manifest", "summary", "signature"])
def test_an_archive_that_lacks_a_part_is_made_again(place: Place, dirs: Dirs, part: str) -> None:
    """If an object of the current archive is gone, the next run makes another that can be verified and restored."""
    first = run_backup(place)
    [(_, name)] = catalog(place).names()
    (dirs.backups / getattr(name, part)).unlink()
    again = run_backup(place).archive
    assert again not in {None, first.archive}
    found = catalog(place)
    assert found.check(*found.find()) == "content"


def test_retention_removes_the_oldest(place: Place) -> None:
    """With keep 2, the third archive lets the first one go."""
    made = []
    for number in range(3):
        touch(place, f"[{number}]")
        made.append(run_backup(place, keep=2).archive)
    assert archive_names(place) == made[1:]


def test_an_archive_is_removed_whole_or_not_at_all(
    place: Place, dirs: Dirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a lock holds one object of an archive, none of the others is deleted."""

    def retained(_: Directory, name: str) -> datetime | None:
        return datetime.max.replace(tzinfo=UTC) if ".manifest." in name else None

    monkeypatch.setattr(Directory, "retained", retained)
    for number in range(2):
        touch(place, f"[{number}]")
        done = run_backup(place, keep=1)
    assert len(list(dirs.backups.iterdir())) == 8
    assert any("is retained until" in note for note in done.notes)


def test_foreign_files_stay(place: Place, dirs: Dirs) -> None:
    """What is not an archive of this host is never removed, whatever it is called."""
    foreign = [dirs.backups / name for name in ("zap-2-20200101t000000z.tar.zst", "zap-20200101t000000z.txt")]
    for path in foreign:
        path.write_text("mine", encoding="utf-8")
    for number in range(3):
        touch(place, f"[{number}]")
        run_backup(place, keep=1)
    assert all(path.read_text(encoding="utf-8") == "mine" for path in foreign)


def test_a_missing_destination_does_not_stop_the_other(place: Place, dirs: Dirs) -> None:
    """With one destination gone, the other gets its archive each night. The run fails and names the missing one."""
    there, gone = dirs.backups / "there", dirs.backups / "gone"
    there.mkdir()
    for number in range(2):
        touch(place, f"[{number}]")
        done = run_backup(place, destinations=[f"file://{there}", f"file://{gone}"])
        assert done.exit_code == 1
        assert any(str(gone) in error for error in done.errors)
    assert run_backup(place).exit_code == 1
    assert len(list(there.glob("*.tar.zst"))) == 2  # an unchanged guest needs no third one
    gone.mkdir()
    healed = run_backup(place)
    assert (healed.exit_code, len(list(gone.glob("*.tar.zst")))) == (0, 1)


@pytest.mark.slow
def test_failing_nights_remove_nothing(place: Place, dirs: Dirs) -> None:
    """Ten nights in which the guest's state is gone are refused, and every archive is still there."""
    for number in range(2):
        touch(place, f"[{number}]")
        run_backup(place, keep=1)
    before = sorted(path.name for path in dirs.backups.iterdir())
    (place.state / "agents").rename(place.home / "agents")
    for _ in range(10):
        with pytest.raises(Refused, match="agents"):
            run_backup(place)
    assert sorted(path.name for path in dirs.backups.iterdir()) == before
    assert record.load(place.host).result == "failure"


def test_a_flipped_byte_is_found(place: Place, dirs: Dirs) -> None:
    """Verification of an archive with one changed byte fails and names the archive."""
    made = run_backup(place).archive
    (path,) = dirs.backups.glob("*.tar.zst")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    found = catalog(place)
    with pytest.raises(VerificationFailed, match=str(made)):
        found.check(*found.find("latest"))


def test_a_replaced_archive_is_found(place: Place, dirs: Dirs) -> None:
    """An archive that somebody replaced together with its summary and manifest contradicts this machine's record."""
    first = run_backup(place).archive
    touch(place, "[1]")
    second = run_backup(place).archive
    for path in dirs.backups.glob(f"{first}.*"):
        path.replace(path.with_name(path.name.replace(str(first), str(second))))
    found = catalog(place)
    with pytest.raises(VerificationFailed, match="are not those that this machine has recorded"):
        found.check(*found.find(str(second)))


def test_encrypted_archives(place: Place, tmp_path: Path) -> None:
    """With a recipient, verification covers the ciphertext, and with the secret key the content."""
    import pyrage

    own, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text(f"{own}\n", encoding="ascii")
    bad.write_text(f"{other}\n", encoding="ascii")
    done = run_backup(place, recipient=str(own.to_public()))
    assert set((done.verified or {}).values()) == {"ciphertext"}
    found = catalog(place, good)
    assert found.check(*found.find("latest")) == "content"
    with pytest.raises(SwarmError, match=str(own.to_public())[:20]):
        catalog(place, bad).manifest(*found.find("latest"))
    with pytest.raises(UsageError):
        catalog(place).manifest(*found.find("latest"))
    with from_archive(found, "latest", Talk(screen(), quiet=True)) as origin:
        assert snapshot_of(origin.tree) == snapshot_of(place.mirror)


def test_commands_run_around_a_backup(place: Place, tmp_path: Path) -> None:
    """The user's commands run before, after and on an error, and know the host and the result."""
    log = tmp_path / "log"
    commands: dict[str, Any] = {
        "before": [f"echo before $SWARM_HOST >>{log}"],
        "after": [f"echo after $SWARM_RESULT >>{log}"],
        "on_error": [f"echo error $SWARM_ERROR >>{log}"],
    }
    run_backup(place, **commands)
    assert log.read_text(encoding="utf-8").splitlines() == ["before zap", "after success"]
    log.unlink()
    with pytest.raises(CommandFailed, match=r"backup\.before, command 1 failed with exit code 7"):
        run_backup(place, before=["exit 7"])
    assert "error backup.before" in log.read_text(encoding="utf-8")
    assert "after failure" in log.read_text(encoding="utf-8")


def test_pings_and_metrics(place: Place, tmp_path: Path) -> None:
    """A dead man's switch learns of start, success and failure, with the log's tail. Metrics are written each time."""
    with switch() as monitor:
        url = f"{monitor.url}/uuid"
        run_backup(place, ping=url, metrics=str(tmp_path))
        text = (tmp_path / "swarm_backup_zap.prom").read_text(encoding="utf-8")
        assert 'swarm_backup_last_result{host="zap"} 0' in text
        (place.state / "agents").rename(place.home / "agents")
        with pytest.raises(Refused):
            run_backup(place)
        assert "agents" in monitor.calls[-1][1]
        text = (tmp_path / "swarm_backup_zap.prom").read_text(encoding="utf-8")
        assert 'swarm_backup_last_result{host="zap"} 2' in text
        # An accepted loss is a warning: the archive is there, so the switch is reset, and the log says what was odd.
        assert run_backup(place, ping=url.replace("uuid", "{state}"), force=True).result == "warning"
        assert "accepted: " in monitor.calls[-1][1]
        assert record.load("zap").result == "warning"
        run_backup(place, ping=url)
    assert monitor.paths[:4] == ["/uuid/start", "/uuid", "/uuid/start", "/uuid/fail"]
    assert monitor.paths[4:] == ["/start", "/warn", "/uuid/start", "/uuid"]


def test_a_dead_monitor_does_not_stop_a_backup(place: Place) -> None:
    """If the ping can't be delivered, the backup succeeds all the same, and no message holds the URL."""
    url = "http://127.0.0.1:9/secret-path"
    assert run_backup(place, ping=url).exit_code == 0
    assert "secret-path" not in (ping(url, "start", []) or "secret-path")


def test_a_plan_changes_nothing(place: Place, dirs: Dirs) -> None:
    """--plan shows what the mirror would gain, and writes neither mirror nor archive nor record."""
    source = Source(place.guest().link, place.host, None, place.user, str(place.state))
    done = back_up(source, place.settings, Talk(screen(), quiet=True), plan_only=True)
    assert (done.changed, done.archive) == (True, None)
    assert not snapshot_of(place.mirror)
    assert not list(dirs.backups.iterdir())


def test_a_clock_that_went_back(place: Place, dirs: Dirs) -> None:
    """An archive dated in the future is neither the latest nor counted, and stays."""
    made = run_backup(place, keep=1).archive
    future = "zap-20990101t000000z"
    for path in dirs.backups.glob(f"{made}.*"):
        path.with_name(path.name.replace(str(made), future)).write_bytes(path.read_bytes())
    known = record.load(place.host)
    known.archives[future] = dict(known.archives[str(made)])
    record.save(place.host, known)
    touch(place, "[1]")
    second = run_backup(place).archive
    assert archive_names(place) == [second, future]
    assert str(catalog(place).find("latest")[1]) == second


@pytest.mark.slow
def test_kill_at_any_point(place: Place) -> None:
    """After kill -9 at random points, the latest archive always verifies, and the next run works with no unlock."""
    run_backup(place)
    chance = random.Random(7)  # noqa: S311 - reproducible
    for number in range(KILLED):
        touch(place, f"[{number}]")
        words = [sys.executable, "-P", "-c", CHILD, str(place.save())]
        with subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT) as child:
            time.sleep(chance.uniform(0.2, 2.5))
            child.send_signal(signal.SIGKILL)
        found = catalog(place)
        assert found.check(*found.find("latest")) == "content"
    limit = time.monotonic() + 120
    while True:
        try:
            done = run_backup(place)
            break
        except Refused:  # a transfer of the killed run still holds the lock
            assert time.monotonic() < limit
            time.sleep(0.5)
    assert done.exit_code == 0
    found = catalog(place)
    assert found.check(*found.find("latest")) == "content"
    manifest = found.manifest(*found.find("latest"))
    assert json.loads(manifest.to_bytes())["host"] == "zap"


def test_a_new_destination_gets_an_archive(place: Place, dirs: Dirs) -> None:
    """A destination that is added to the host file gets an archive, though the guest is unchanged."""
    run_backup(place)
    more = dirs.backups / "more"
    more.mkdir()
    done = run_backup(place, destinations=[f"file://{dirs.backups}", f"file://{more}"])
    assert done.archive
    assert len(list(more.glob("*.tar.zst"))) == 1
