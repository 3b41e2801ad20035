"""What changes between two backups: the time zone, the key, the guest after a restore, and a log that has grown."""

from __future__ import annotations

import os
import subprocess
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyrage
import pytest

from swarm.backup.catalog import Catalog
from swarm.backup.naming import parse
from swarm.backup.recover import from_archive
from swarm.backup.restore import Target, restore
from swarm.console import Talk, screen
from swarm.errors import Unfit, UsageError
from tests.integration.guest_state import archive_names, run_backup, touch
from tests.state import snapshot_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.guest_state import Place


SECOND = timedelta(seconds=1)  # an archive is named after the next one if the last has its name


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Let a test set TZ; the process returns to its own time zone afterwards."""
    yield monkeypatch
    monkeypatch.undo()
    time.tzset()


@pytest.mark.slow
def test_another_time_zone_between_two_backups(place: Place, elsewhere: pytest.MonkeyPatch) -> None:
    """Archives are named, ordered, found and removed in UTC, wherever the machine thinks it is (restic#2233)."""
    made: list[str] = []
    for number, zone in enumerate(("AAA-14", "BBB+11", "EST5EDT,M3.2.0,M11.1.0", "UTC0")):
        elsewhere.setenv("TZ", zone)
        time.tzset()
        touch(place, f"[{number}]")
        before = datetime.now(UTC).replace(microsecond=0)
        made.append(str(run_backup(place, keep=3).archive))
        found = parse(f"{made[-1]}.tar.zst")
        assert found is not None
        assert before <= found[0].created <= datetime.now(UTC) + SECOND
        assert run_backup(place).current == made[-1]
    assert archive_names(place) == made[1:]
    assert str(Catalog(place.host, place.settings).find("latest")[1]) == made[-1]


def test_each_archive_is_read_with_its_own_key(place: Place, tmp_path: Path) -> None:
    """After the recipient has changed, each archive says whose it is, and verifies and restores with that key alone.

    A file that holds both keys reads all of them (borg#4236).
    """
    secrets = [pyrage.x25519.Identity.generate() for _ in range(2)]
    public = [str(each.to_public()) for each in secrets]
    files = [tmp_path / "first", tmp_path / "second", tmp_path / "both"]
    for path, lines in zip(files, (secrets[:1], secrets[1:], secrets), strict=True):
        path.write_text("".join(f"{each}\n" for each in lines), encoding="ascii")
    trees, made = [], []
    for number, key in enumerate(public):
        touch(place, f"[{number}]")
        made.append(str(run_backup(place, recipient=key).archive))
        trees.append(snapshot_of(place.mirror))
    rows = Catalog(place.host, place.settings).rows()
    assert [(str(row.name), row.summary and row.summary.recipient) for row in rows] == [
        *zip(made, public, strict=True)
    ]
    for number, name in enumerate(made):
        for identity in (files[number], files[2]):
            catalog = Catalog(place.host, place.settings, identity)
            assert catalog.check(*catalog.find(name)) == "content"
            with from_archive(catalog, name, Talk(screen(), quiet=True)) as origin:
                assert snapshot_of(origin.tree) == trees[number]
        wrong = Catalog(place.host, place.settings, files[1 - number])
        for attempt in (wrong.check, wrong.manifest):
            with pytest.raises(UsageError, match=f"encrypted to {public[number]}"):
                attempt(*wrong.find(name))


def test_a_new_recipient_makes_a_new_archive(place: Place) -> None:
    """An unchanged guest gets another archive as soon as the recipient changes, because the old key may be lost."""
    first, second = (str(pyrage.x25519.Identity.generate().to_public()) for _ in range(2))
    run_backup(place, recipient=first)
    assert run_backup(place, recipient=first).archive is None
    assert run_backup(place, recipient=second).archive


@pytest.mark.slow
def test_the_backup_after_some_restores(place: Place) -> None:
    """Three restores leave nothing in the state directory that the next backup would copy (openclaw#10126)."""
    run_backup(place)
    before, size = snapshot_of(place.mirror), [*rows(place)]
    target = Target(place.guest(), place.host, place.user, str(place.state), 1, service=False)
    talk = Talk(screen(), quiet=True)
    for number in range(3):
        touch(place, f"[{number}]")
        (place.state / f"agents/main/sessions/more-{number}.jsonl").write_text("later", encoding="utf-8")
        with from_archive(Catalog(place.host, place.settings), "latest", talk) as origin:
            assert restore(target, origin.tree, origin.manifest, place.settings, talk).changed
    done = run_backup(place)
    assert (done.exit_code, done.warnings) == (0, ())
    assert snapshot_of(place.mirror).keys() == before.keys()
    assert {
        path: text for path, text in snapshot_of(place.mirror).items() if not path.endswith(".sqlite")
    } == {path: text for path, text in before.items() if not path.endswith(".sqlite")}
    assert set(rows(place)) == set(size)


def rows(place: Place) -> list[int]:
    """Return the number of files in each archive."""
    found = Catalog(place.host, place.settings).rows()
    return [row.summary.files for row in found if row.summary]


def test_a_huge_log_that_is_excluded(place: Place) -> None:
    """An excluded log of 13 GiB is neither copied nor counted: not as a file, and not as space (openclaw#42273)."""
    place.settings = place.settings.model_copy(update={"exclude": (*place.settings.exclude, "*.log")})
    place.backup()
    before = snapshot_of(place.mirror)
    for name in ("logs/gateway.log", "agents/main/raw.log"):
        times = (place.state / name).parent.stat()
        with (place.state / name).open("wb") as file:
            file.truncate(13 << 30)
        os.utime((place.state / name).parent, ns=(times.st_atime_ns, times.st_mtime_ns))
    place.own()
    assert place.backup(plan_only=True).plan == ()
    done = place.backup()
    assert (done.changed, done.transferred, done.deleted) == (False, 0, 0)
    assert snapshot_of(place.mirror) == before


def test_holes_in_an_excluded_log_are_no_space(place: Place, base: Path) -> None:
    """What an excluded sparse log does not occupy is not subtracted from what the copy needs."""
    disk = base / "little"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a disk needs root")
    try:
        place.mirror = disk / "zap"
        place.settings = place.settings.model_copy(update={"exclude": ("*.log",)})
        with (place.state / "agents/raw.log").open("wb") as file:
            file.truncate(13 << 30)
        (place.state / "agents/large").write_bytes(bytes(range(256)) * (6 << 12))
        with pytest.raises(Unfit, match="the disk is full: the copy needs 6"):
            place.backup()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
        disk.rmdir()
