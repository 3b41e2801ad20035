"""Whole runs of a backup after something odd: a wrong clock, a failed command, a damaged record."""

from __future__ import annotations

import errno
import os
import re
import socket
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm import history
from swarm.backup import record
from swarm.backup.catalog import Catalog
from swarm.backup.monitor import ping
from swarm.commands import backup
from swarm.errors import VerificationFailed
from swarm.inventory.backup import BackupSettings
from swarm.paths import ROOT
from tests.integration.guest_state import archive_names, run_backup
from tests.integration.switch import switch

if TYPE_CHECKING:
    from tests.conftest import Dirs
    from tests.integration.guest_state import Place


def test_an_archive_of_a_wrong_clock_is_not_current(place: Place, dirs: Dirs) -> None:
    """If the last archive is dated in the future, an unchanged guest gets another, which then is the latest."""
    made = str(run_backup(place).archive)
    future = f"zap-{datetime.now(UTC) + timedelta(days=400):%Y%m%dt%H%M%Sz}"
    for path in dirs.backups.glob(f"{made}.*"):
        path.rename(path.with_name(path.name.replace(made, future)))
    known = record.load(place.host)
    known.archive, known.archives = future, {future: known.archives[made]}
    record.save(place.host, known)
    again = run_backup(place)
    assert again.archive
    assert str(Catalog(place.host, place.settings).find("latest")[1]) == again.archive
    assert run_backup(place).current == again.archive


def test_a_change_of_owner_is_archived(place: Place) -> None:
    """If a file has got another owner and nothing else has changed, the next run archives that once."""
    run_backup(place)
    os.chown(place.state / "cron" / "jobs.json", 0, 0)
    made = run_backup(place).archive
    assert made
    found = Catalog(place.host, place.settings)
    assert found.manifest(*found.find("latest")).files["cron/jobs.json"].owner == "root"
    assert run_backup(place).current == made


def test_a_destination_that_breaks_costs_the_others_nothing(
    place: Place, dirs: Dirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a destination fails while its last archive is looked up, an unchanged guest gets no other archive."""
    first = run_backup(place, destinations=[f"file://{dirs.backups}", f"file://{tmp_path}"])
    real = Path.is_file

    def broken(self: Path) -> bool:
        if self.parent == tmp_path:
            raise OSError(errno.EIO, "Input/output error")
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_file", broken)
        second = run_backup(place)
    assert (second.exit_code, second.archive, second.current) == (1, None, first.archive)
    assert second.errors == (
        f"can't look up {tmp_path}/{first.archive}.manifest.json.zst: Input/output error",
    )
    assert run_backup(place).current == first.archive
    assert archive_names(place) == [first.archive] * 2


def test_the_switch_is_called_as_the_schema_says() -> None:
    """The paths that are appended are those of the description. A warning resets the switch as a success does."""
    with switch() as monitor:
        assert [ping(monitor.url, state, []) for state in ("start", "success", "warn", "fail")] == [None] * 4
    assert monitor.paths == ["/start", "/", "/", "/fail"]
    text = BackupSettings.model_fields["ping"].description or ""
    assert {"/", *re.findall(r"/[a-z]+", text)} == set(monitor.paths)


def test_a_query_follows_what_is_appended() -> None:
    """A failure is no success to a switch whose URL has a query: /fail is appended to the path."""
    with switch() as monitor:
        for state in ("start", "success", "fail"):
            assert ping(f"{monitor.url}/key/zap/?create=1#part", state, []) is None
    assert monitor.paths == ["/key/zap/start?create=1", "/key/zap?create=1", "/key/zap/fail?create=1"]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_switch_that_has_moved_is_named(status: int) -> None:
    """An answer that leads elsewhere is no delivery, since the report of a failure would be lost without a word."""
    with switch(status) as monitor:
        words = ping(f"{monitor.url}/secret-path", "fail", []) or ""
    assert "the ping for 'fail' was not delivered: the answer leads to another address" in words
    assert f"(status {status})" in words
    assert "secret-path" not in words


def test_an_answer_without_an_end_holds_nothing_up() -> None:
    """Of what a switch answers, only the status counts."""

    def answer() -> None:
        client, _ = server.accept()
        with client:
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
            while client.recv(1 << 16):
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, daemon=True).start()
        assert ping(f"http://127.0.0.1:{server.getsockname()[1]}", "success", []) is None


def test_a_switch_that_no_host_can_be(place: Place) -> None:
    """A host name that none can have is a switch that can't be reached: the backup succeeds."""
    assert run_backup(place, ping="http://a..b/secret-path").exit_code == 0
    assert "secret-path" not in (ping("http://a..b/secret-path", "start", []) or "secret-path")


def test_a_failed_command_afterwards_fails_the_run(place: Place, tmp_path: Path) -> None:
    """If a command of `after` fails, the record, the switch and `on_error` say so, and the archive stays current."""
    log = tmp_path / "log"
    with switch() as monitor:
        done = run_backup(place, ping=monitor.url, after=["exit 3"], on_error=[f"echo $SWARM_ERROR >{log}"])
    words = "backup.after, command 1 failed with exit code 3"
    assert (done.exit_code, done.errors) == (1, (words,))
    known = record.load(place.host)
    assert (known.result, known.message, known.archive) == ("failure", words, done.archive)
    assert monitor.paths == ["/start", "/fail"]
    assert log.read_text(encoding="utf-8") == f"{words}\n"
    assert run_backup(place, ping=None, after=[], on_error=[]).current == done.archive


def test_a_damaged_record_is_reported_like_any_failure(place: Place, tmp_path: Path) -> None:
    """A record that can't be read is left alone, and the switch, the commands and the metrics learn of it."""
    path, log = record.folder(place.host) / "record.json", tmp_path / "log"
    path.write_text("{", encoding="utf-8")
    with switch() as monitor, pytest.raises(VerificationFailed, match="is damaged"):
        run_backup(place, ping=monitor.url, on_error=[f"echo $SWARM_ERROR >{log}"], metrics=str(tmp_path))
    assert monitor.paths == ["/fail"]
    assert "is damaged" in monitor.calls[0][1]
    assert "is damaged" in log.read_text(encoding="utf-8")
    text = (tmp_path / "swarm_backup_zap.prom").read_text(encoding="utf-8")
    assert 'swarm_backup_last_result{host="zap"} 2' in text
    assert path.read_text(encoding="utf-8") == "{"


def test_a_host_without_a_pinned_key_is_reported_like_any_failure(dirs: Dirs, tmp_path: Path) -> None:
    """A guest that can't be reached for want of a pinned key is in the record, the metrics and the ping."""
    log = tmp_path / "log"
    text = (ROOT / "hosts/demo.yaml").read_text(encoding="utf-8")
    with switch() as monitor:
        section = (
            f"backup: {{ping: '{monitor.url}', metrics: '{tmp_path}', after: ['echo $SWARM_RESULT >{log}']}}"
        )
        (dirs.hosts / "demo.yaml").write_text(f"{text}\n{section}\n", encoding="utf-8")
        assert backup.now("demo", plan_only=True, force=False, bwlimit=0, as_json=True) == 1
        assert not monitor.calls
        assert backup.now("demo", plan_only=False, force=False, bwlimit=0, as_json=True) == 1
    assert monitor.paths == ["/fail"]
    assert "no pinned host key" in monitor.calls[0][1]
    assert log.read_text(encoding="utf-8") == "failure\n"
    assert record.load("demo").result == "failure"
    assert [each["result"] for each in history.entries("demo", "backup")] == ["failure"]
    assert 'last_result{host="demo"} 2' in (tmp_path / "swarm_backup_demo.prom").read_text(encoding="utf-8")
