"""The commands that look into archives, on real archives in directories."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from swarm.backup import record
from swarm.commands import archives, backup
from swarm.paths import ROOT
from tests.integration.archives import make_identity, public
from tests.integration.stored import HOST, archived, settings

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.backup.naming import Name
    from tests.conftest import Dirs

_FIRST = datetime(2026, 11, 23, 3, tzinfo=UTC)


def write_host(dirs: Dirs, *folders: Path, keep: int = 7) -> None:
    """Write the host file, with directories as destinations."""
    text = (ROOT / "hosts/demo.yaml").read_text(encoding="utf-8").replace("demo", HOST)
    where = [f"file://{each}" for each in folders]
    section = {"destinations": where, "keep": keep}
    (dirs.hosts / f"{HOST}.yaml").write_text(f"{text}\nbackup: {json.dumps(section)}\n", encoding="utf-8")


@pytest.fixture
def three(dirs: Dirs, tmp_path: Path) -> list[Name]:
    """Three archives, a day apart: a file is added, another is changed."""
    write_host(dirs, dirs.backups)
    to, common = settings(dirs.backups), {"openclaw.json": "{}"}
    return [
        archived(tmp_path, to, _FIRST, {**common, "notes": "old"}),
        archived(tmp_path, to, _FIRST + timedelta(days=1), {**common, "notes": "new"}),
        archived(tmp_path, to, _FIRST + timedelta(days=2), {**common, "notes": "new", "more": "x"}),
    ]


def test_a_verification_names_a_destination_that_is_down(
    dirs: Dirs, three: list[Name], capsys: pytest.CaptureFixture[str]
) -> None:
    """If a destination does not answer, --all and --sample verify the others, name it, and return 1."""
    gone = dirs.backups.parent / "gone"
    write_host(dirs, dirs.backups, gone)
    for options in ({"everything": True, "sample": 0}, {"everything": False, "sample": 3}):
        assert archives.verify(HOST, "", "", as_json=False, **options) == 1  # type: ignore[arg-type]
        shown = capsys.readouterr().err
        assert f"can't list {gone}: it does not exist" in shown
        assert f"{len(three)} of {len(three)} archives verified; destinations that did not answer: 1" in shown


def test_a_search_names_a_destination_that_is_down(
    dirs: Dirs, three: list[Name], capsys: pytest.CaptureFixture[str]
) -> None:
    """If a destination does not answer, the others are searched, and the exit code is 1."""
    gone = dirs.backups.parent / "gone"
    write_host(dirs, dirs.backups, gone)
    assert archives.find(HOST, "more", "", as_json=True) == 1
    shown = capsys.readouterr()
    assert [each["archive"] for each in json.loads(shown.out)] == [str(three[2])]
    assert f"can't list {gone}: it does not exist" in shown.err


def test_a_search_goes_on_after_an_archive_of_another_key(
    dirs: Dirs, three: list[Name], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An archive that the identity can't decrypt is named, the others are searched, and the exit code is 1."""
    key = public(make_identity(tmp_path / "lost.key"))
    lost = archived(
        tmp_path, settings(dirs.backups, recipient=key), _FIRST - timedelta(days=9), {"more": "x"}
    )
    own = make_identity(tmp_path / "own.key")
    assert archives.find(HOST, "more", str(own), as_json=True) == 1
    shown = capsys.readouterr()
    assert [each["archive"] for each in json.loads(shown.out)] == [str(three[2])]
    assert f"{lost} at file://{dirs.backups} was not searched" in shown.err


def test_what_was_removed_is_recorded_if_a_later_removal_fails(
    dirs: Dirs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the second destination fails, the record no longer holds what is gone from the first."""
    more = tmp_path / "more"
    more.mkdir()
    write_host(dirs, dirs.backups, more, keep=1)
    to = settings(dirs.backups, more)
    old, new = (archived(tmp_path, to, _FIRST + timedelta(days=day), {"a": "b"}) for day in range(2))
    (more / old.signature).unlink()
    (more / old.signature).mkdir()  # what can't be deleted
    assert backup.prune(HOST, plan_only=False, yes=True, as_json=False) == 1
    assert f"can't delete {more / old.signature}" in capsys.readouterr().err
    assert {path.name for path in dirs.backups.iterdir()} == set(new.objects)
    known = record.load(HOST)
    assert known.verified(str(old), f"file://{dirs.backups}") is None
    assert known.verified(str(new), f"file://{dirs.backups}") == "content"


def test_an_archive_without_files_is_marked(
    dirs: Dirs, three: list[Name], capsys: pytest.CaptureFixture[str]
) -> None:
    """The list says of an archive whose files somebody deleted that they are missing, and not that it is verified."""
    (dirs.backups / three[1].archive).unlink()
    assert archives.listing(HOST, as_json=True) == 0
    [shown] = json.loads(capsys.readouterr().out)
    assert [(each["verified"], each["problem"]) for each in shown["archives"]] == [
        ("content", None),
        (None, "its files are missing"),
        ("content", None),
    ]
