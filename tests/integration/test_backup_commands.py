"""The commands that look into archives, on real archives in directories."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from swarm.backup import record
from swarm.backup.catalog import Catalog
from swarm.commands import archives, backup
from swarm.errors import UsageError
from swarm.paths import ROOT
from tests.integration.archives import make_identity, public
from tests.integration.stored import HOST, archived, settings

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.backup.manifest import Manifest
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
        assert f"{len(three)} of {len(three)} copies verified; destinations that did not answer: 1" in shown


def test_a_look_into_an_archive_takes_a_good_copy(
    dirs: Dirs, three: list[Name], capsys: pytest.CaptureFixture[str]
) -> None:
    """If a manifest is damaged, show and diff say so, and read that of the next destination."""
    other = dirs.backups.with_name("other")
    shutil.copytree(dirs.backups, other)
    write_host(dirs, dirs.backups, other)
    (dirs.backups / three[1].manifest).write_bytes(b"damaged")
    assert archives.show(HOST, str(three[1]), "", as_json=True) == 0
    shown = capsys.readouterr()
    assert [each["path"] for each in json.loads(shown.out)["entries"]] == ["notes", "openclaw.json"]
    assert f"thecopyatfile://{other}istriednext" in "".join(shown.err.split())
    assert archives.diff(HOST, str(three[0]), str(three[1]), "", as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["changed"] == ["notes"]


def test_the_latest_archive_may_be_where_nobody_answers(
    dirs: Dirs, three: list[Name], capsys: pytest.CaptureFixture[str]
) -> None:
    """What show takes for the latest archive may not be it, if a destination did not answer: that is named."""
    write_host(dirs, dirs.backups, dirs.backups.parent / "gone")
    assert archives.show(HOST, "latest", "", as_json=True) == 0
    shown = capsys.readouterr()
    assert len(json.loads(shown.out)["entries"]) == len(three)
    assert "gonedidnotanswer,andmayhaveanewerarchive" in "".join(shown.err.split())


def test_a_list_that_failed_is_not_an_empty_one(dirs: Dirs, capsys: pytest.CaptureFixture[str]) -> None:
    """`backup.list` says "no archives" only if every destination has answered."""
    write_host(dirs, dirs.backups)
    assert archives.listing(HOST, as_json=False) == 0
    assert "no archives" in capsys.readouterr().err
    write_host(dirs, dirs.backups, dirs.backups.parent / "gone")
    assert archives.listing(HOST, as_json=False) == 1
    shown = capsys.readouterr()
    assert "gone: it does not exist" in shown.err
    assert "no archives" not in shown.err + shown.out


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


def test_a_destination_that_is_down_keeps_no_other_from_being_pruned(
    dirs: Dirs, three: list[Name], capsys: pytest.CaptureFixture[str]
) -> None:
    """If the first destination does not answer, the others are pruned, it is named, and the command returns 1."""
    gone = dirs.backups.parent / "gone"
    write_host(dirs, gone, dirs.backups, keep=1)
    assert backup.prune(HOST, plan_only=True, yes=False, as_json=False) == 1
    shown = capsys.readouterr().err
    assert f"- {three[0]} at file://{dirs.backups}" in shown
    assert f"can't list {gone}: it does not exist" in shown
    assert backup.prune(HOST, plan_only=False, yes=True, as_json=True) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["changed"], found["errors"]) == (True, [f"can't list {gone}: it does not exist"])
    assert {path.name for path in dirs.backups.iterdir()} == set(three[2].objects)
    assert backup.prune(HOST, plan_only=False, yes=True, as_json=False) == 1
    assert "nothing to do" not in capsys.readouterr().err


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


def test_the_list_shows_every_archive(three: list[Name], capsys: pytest.CaptureFixture[str]) -> None:
    """The list has each archive, oldest first, with the files that it holds and how far it is verified."""
    assert archives.listing(HOST, as_json=True) == 0
    [shown] = json.loads(capsys.readouterr().out)
    found = [(each["archive"], each["files"], each["verified"]) for each in shown["archives"]]
    assert found == [(str(name), files, "content") for name, files in zip(three, (2, 2, 3), strict=True)]
    assert shown["errors"] == []
    assert archives.listing(HOST, as_json=False) == 0
    out = capsys.readouterr().out
    assert all(str(name) in out for name in three)


def test_the_manifest_of_an_archive_is_shown(three: list[Name], capsys: pytest.CaptureFixture[str]) -> None:
    """An archive that is named by itself or by one of its objects, or is the latest, is shown with all its files."""
    for words, paths in ((str(three[0]), 2), (three[1].summary, 2), ("latest", 3)):
        assert archives.show(HOST, words, "", as_json=True) == 0
        entries = json.loads(capsys.readouterr().out)["entries"]
        assert len([each for each in entries if each["kind"] == "file"]) == paths
    assert archives.show(HOST, "latest", "", as_json=False) == 0
    assert "openclaw:openclaw" in capsys.readouterr().out
    with pytest.raises(UsageError, match="there is no archive 'nothing' at"):
        archives.show(HOST, "nothing", "", as_json=False)


@pytest.mark.parametrize("seconds", [253402300800, -(10**12), 10**30])
@pytest.mark.usefixtures("three")
def test_a_time_that_no_calendar_has_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seconds: int
) -> None:
    """A file that was modified after the year 9999 is shown with the others, with its time in seconds."""
    read = Catalog.manifest

    def later(*words: Any) -> Manifest:
        found = read(*words)
        return replace(
            found, entries=tuple(replace(each, mtime_ns=seconds * 10**9) for each in found.entries)
        )

    monkeypatch.setattr(Catalog, "manifest", later)
    assert archives.show(HOST, "latest", "", as_json=False) == 0
    assert archives.find(HOST, "notes", "", as_json=False) == 0
    assert f"@{seconds}" in capsys.readouterr().out


def test_the_difference_of_two_archives(three: list[Name], capsys: pytest.CaptureFixture[str]) -> None:
    """The difference names what was added, removed and changed, from the older to the newer archive."""
    first, second, last = map(str, three)
    for older, newer, added, removed, changed in (
        (first, "latest", ["more"], [], ["notes"]),
        (first, second, [], [], ["notes"]),
        (last, second, [], ["more"], []),
        (last, "latest", [], [], []),
    ):
        assert archives.diff(HOST, older, newer, "", as_json=True) == 0
        done = json.loads(capsys.readouterr().out)
        assert done == {"added": added, "removed": removed, "changed": changed}
    assert archives.diff(HOST, first, "latest", "", as_json=False) == 0
    assert capsys.readouterr().out.splitlines() == ["+ more", "~ notes"]
    with pytest.raises(UsageError, match="--older takes the name of an archive"):
        archives.diff(HOST, "", "latest", "", as_json=False)


@pytest.mark.parametrize(
    ("pattern", "code", "count"), [("notes", 0, 3), ("mor", 0, 1), ("open*.json", 0, 3), ("x", 1, 0)]
)
def test_a_file_is_found(
    three: list[Name], pattern: str, code: int, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A search by a part of a path or by a pattern names the archives; without any the exit code is 1."""
    assert archives.find(HOST, pattern, "", as_json=True) == code
    found = json.loads(capsys.readouterr().out)
    assert [each["archive"] for each in found] == [str(name) for name in three][-count:][:count]
    assert archives.find(HOST, pattern, "", as_json=False) == code
    shown = capsys.readouterr()
    assert ("no archive has a path that matches" in shown.err) is (count == 0)


def test_archives_are_verified(dirs: Dirs, three: list[Name], capsys: pytest.CaptureFixture[str]) -> None:
    """The latest, a sample or all of them: each result is shown, and one damaged archive fails the command."""
    for options, count in (((False, 0), 1), ((False, 2), 2), ((False, 9), 3), ((True, 0), 3)):
        everything, sample = options
        assert archives.verify(HOST, "", "", everything=everything, sample=sample, as_json=True) == 0
        [shown] = json.loads(capsys.readouterr().out)
        assert [(each["verified"], each["error"]) for each in shown["archives"]] == [
            ("content", None)
        ] * count
    with (dirs.backups / three[1].archive).open("ab") as file:
        file.write(b"more")
    assert archives.verify(HOST, "", "", everything=True, sample=0, as_json=False) == 1
    shown = capsys.readouterr().err
    assert "2 of 3 copies verified" in shown
    assert "data follows its end" in shown


@pytest.mark.parametrize("named", [False, True])
def test_every_copy_is_verified(
    dirs: Dirs,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    named: bool,  # noqa: FBT001
) -> None:
    """A verification reads the copy at each destination, and fails for one that is damaged or missing."""
    others = [tmp_path / "second", tmp_path / "third"]
    for folder in others:
        folder.mkdir()
    write_host(dirs, dirs.backups, *others)
    made = archived(tmp_path, settings(dirs.backups, *others), _FIRST, {"openclaw.json": "{}"})
    name = str(made) if named else ""
    assert archives.verify(HOST, name, "", everything=False, sample=0, as_json=False) == 0
    assert "3 of 3 copies verified" in capsys.readouterr().err
    (others[0] / made.archive).write_bytes(b"damaged")
    for path in others[1].iterdir():
        path.unlink()
    assert archives.verify(HOST, name, "", everything=False, sample=0, as_json=False) == 1
    shown = "".join(capsys.readouterr().err.split())
    assert f"error:{made}atfile://{others[0]}" in shown
    assert f"error:{made}ismissingatfile://{others[1]}" in shown
    assert "1of3copiesverified" in shown


def test_no_archive_is_no_success(dirs: Dirs, capsys: pytest.CaptureFixture[str]) -> None:
    """Without any archive the verification fails and says so, whichever archives it was to verify."""
    write_host(dirs, dirs.backups)
    for everything, sample in ((False, 0), (False, 2), (True, 0)):
        assert archives.verify(HOST, "", "", everything=everything, sample=sample, as_json=False) == 1
        assert f"thereisnoarchiveyetatfile://{dirs.backups}" in "".join(capsys.readouterr().err.split())


def test_a_negative_sample_is_refused() -> None:
    """A sample has at least one archive; less is a usage error, not a defect."""
    with pytest.raises(UsageError, match="--sample takes the number of archives"):
        archives.verify(HOST, "", "", everything=False, sample=-1, as_json=False)


@pytest.mark.parametrize(
    ("archive", "everything", "sample"), [("x", True, 0), ("x", False, 1), ("", True, 1)]
)
def test_only_one_option_says_what_is_verified(archive: str, everything: bool, sample: int) -> None:  # noqa: FBT001
    """An archive that is named is never passed over in favour of all or of a sample."""
    with pytest.raises(UsageError, match="exclude each other"):
        archives.verify(HOST, archive, "", everything=everything, sample=sample, as_json=False)


def test_old_archives_are_pruned(dirs: Dirs, three: list[Name], capsys: pytest.CaptureFixture[str]) -> None:
    """--plan names what would go and removes nothing; --yes removes it; then there is nothing to do."""
    write_host(dirs, dirs.backups, keep=2)
    before = sorted(dirs.backups.iterdir())
    assert backup.prune(HOST, plan_only=True, yes=False, as_json=False) == 0
    assert f"- {three[0]} at file://{dirs.backups}" in capsys.readouterr().err
    assert sorted(dirs.backups.iterdir()) == before
    assert backup.prune(HOST, plan_only=False, yes=True, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)[0]["changed"]
    assert {path.name for path in dirs.backups.iterdir()} == {*three[1].objects, *three[2].objects}
    assert record.load(HOST).archives.keys() == {str(three[1]), str(three[2])}
    assert backup.prune(HOST, plan_only=False, yes=True, as_json=False) == 0
    assert "nothing to do" in capsys.readouterr().err


def test_nothing_is_pruned_without_an_answer(
    dirs: Dirs, three: list[Name], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --yes and without a terminal, nothing is removed, and the hint names the option."""
    write_host(dirs, dirs.backups, keep=1)
    assert backup.prune(HOST, plan_only=False, yes=False, as_json=False) == 1
    assert "--yes" in capsys.readouterr().err
    assert len(list(dirs.backups.iterdir())) == 4 * len(three)
