"""What is removed from a real directory: never an intact archive too many, and at last what is no archive."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.backup.directory import Directory
from swarm.backup.manifest import Sums
from swarm.backup.naming import Name
from swarm.backup.record import Record
from swarm.backup.removal import prune
from swarm.backup.retention import Policy
from swarm.errors import RemoteError
from swarm.s3 import Stored

_NOW = datetime.now(UTC).replace(microsecond=0)
_STATES = ("intact", "no manifest", "no archive", "gone", "unverified", "abandoned")


def stored(folder: Path, record: Record, days: float, state: str, *, encrypted: bool = False) -> Name:
    """Store an archive that is so many days old, in a state of _STATES. Return its name."""
    name = Name("zap", _NOW - timedelta(days=days), encrypted)
    left = {
        "no manifest": name.objects[1:],
        "no archive": name.objects[:-1],
        "gone": (),
        "abandoned": (name.archive, name.summary),
    }
    for each in left.get(state, name.objects):
        (folder / each).write_text(each, encoding="utf-8")
        os.utime(folder / each, (name.created.timestamp(),) * 2)
    if state not in {"unverified", "abandoned"}:
        record.note(str(name), Sums("aa", "bb"), f"file://{folder}", "content")
    return name


def left(folder: Path, name: Name) -> int:
    """Return how many objects of an archive are there."""
    return sum((folder / each).exists() for each in name.objects)


class Stale(Directory):
    """A directory whose listing shows, as some servers' do, what was deleted a moment ago, and lacks what is new."""

    ghosts: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()

    def objects(self) -> list[Stored]:
        """Return what is there, and what is not."""
        there = [each for each in super().objects() if each.name not in self.hidden]
        return sorted([*there, *(Stored(each, 1, _NOW) for each in self.ghosts)])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(_STATES), st.booleans()), max_size=8), st.integers(1, 4))
def test_only_intact_archives_count(states: list[tuple[str, bool]], keep: int) -> None:
    """Whatever else is there, the newest intact archives stay, as many as `keep` says, and what is no archive goes."""
    with tempfile.TemporaryDirectory() as base:
        folder, record = Path(base), Record()
        made = [
            (state, stored(folder, record, number + 2, state, encrypted=encrypted))
            for number, (state, encrypted) in enumerate(states)
        ]
        fresh = stored(folder, record, 0, "intact")  # that of the run
        prune(Directory(folder), "zap", Policy(keep), record)
        intact = [fresh, *(name for state, name in made if state == "intact")]
        assert [left(folder, name) for name in intact] == [4] * len(intact[:keep]) + [0] * len(intact[keep:])
        assert all(left(folder, name) == 4 for state, name in made if state == "unverified")
        assert not any(left(folder, name) for state, name in made if state == "abandoned")
        assert all(record.verified(str(name), f"file://{folder}") for name in intact[:keep])
        for state, name in made:
            if state in {"no manifest", "no archive"} and len(intact) >= keep:
                assert (left(folder, name) == 0) is (name.created < intact[keep - 1].created)
        assert prune(Directory(folder), "zap", Policy(keep), record) == ([], [])


def test_ghosts_in_a_listing_push_nothing_out(tmp_path: Path) -> None:
    """Archives that a listing shows although they are gone do not count."""
    record, there = Record(), Stale(tmp_path)
    intact = [stored(tmp_path, record, days, "intact") for days in (4, 3, 2)]
    ghosts = [stored(tmp_path, record, days, "gone") for days in (1, 0.5)]
    there.ghosts = tuple(each for name in ghosts for each in name.objects)
    assert prune(there, "zap", Policy(keep=2), record)[0] == intact[:1]
    assert [left(tmp_path, name) for name in intact] == [0, 4, 4]


@pytest.mark.parametrize("encrypted", [False, True])
def test_what_a_listing_lacks_is_not_taken_for_gone(tmp_path: Path, *, encrypted: bool) -> None:
    """An archive whose manifest a listing lacks is not swept, and one that it lacks as a whole is not forgotten."""
    record, there = Record(), Stale(tmp_path)
    for days in (1, 0):
        stored(tmp_path, record, days, "intact")
    foreign = stored(tmp_path, record, 3, "unverified", encrypted=encrypted)
    known = stored(tmp_path, record, 2, "intact", encrypted=encrypted)
    there.hidden = (foreign.manifest, *known.objects)
    assert prune(there, "zap", Policy(), record) == ([], [])
    assert left(tmp_path, foreign) == 4
    assert record.verified(str(known), there.url)


def test_a_failed_removal_is_completed(tmp_path: Path) -> None:
    """If an object can't be deleted, the rest of the archive goes with a later removal, and so does its record."""
    record, url = Record(), f"file://{tmp_path}"
    old, new = (stored(tmp_path, record, days, "intact") for days in (1, 0))
    (tmp_path / old.signature).unlink()
    (tmp_path / old.signature).mkdir()
    with pytest.raises(RemoteError, match="can't delete"):
        prune(Directory(tmp_path), "zap", Policy(keep=1), record)
    assert not (tmp_path / old.manifest).exists()
    assert record.verified(str(old), url)
    (tmp_path / old.signature).rmdir()
    assert prune(Directory(tmp_path), "zap", Policy(keep=1), record)[0] == [old]
    assert (left(tmp_path, old), left(tmp_path, new)) == (0, 4)
    assert record.archives.keys() == {str(new)}


def test_what_another_machine_is_writing_stays(tmp_path: Path) -> None:
    """An archive without a manifest stays for a day, by its name and by the destination's own clock."""
    record = Record()
    stored(tmp_path, record, 0, "intact")
    young = [stored(tmp_path, record, days, "abandoned") for days in (0.9, 3)]
    os.utime(tmp_path / young[0].archive, (_NOW.timestamp() - 300_000,) * 2)
    os.utime(tmp_path / young[0].summary, (_NOW.timestamp() - 300_000,) * 2)
    os.utime(tmp_path / young[1].archive, (_NOW.timestamp() - 3600,) * 2)  # a long upload has just ended
    assert prune(Directory(tmp_path), "zap", Policy(), record) == ([], [])
    for path in tmp_path.iterdir():  # as if the destination's clock were years behind this machine's
        os.utime(path, (1_500_000_000,) * 2)
    assert prune(Directory(tmp_path), "zap", Policy(), record) == ([], [])


def test_foreign_objects_are_never_swept(tmp_path: Path) -> None:
    """What belongs to another host, or only looks like an archive, stays however old it is."""
    record = Record()
    stored(tmp_path, record, 0, "intact")
    foreign = ("zap-2-20200101t000000z.tar.zst", "zap-20200101t000000z.tar.gz", "zap-20200101t000000z")
    for each in foreign:
        (tmp_path / each).write_text("mine", encoding="utf-8")
        os.utime(tmp_path / each, (0, 0))
    assert prune(Directory(tmp_path), "zap", Policy(), record) == ([], [])
    assert all((tmp_path / each).exists() for each in foreign)


def test_what_others_removed_is_forgotten(tmp_path: Path) -> None:
    """An archive that somebody removed no longer counts as verified, unless all but the newest are missing."""
    record, url = Record(), f"file://{tmp_path}"
    gone = stored(tmp_path, record, 2, "gone")
    stored(tmp_path, record, 0, "intact")
    prune(Directory(tmp_path), "zap", Policy(), record)
    assert record.verified(str(gone), url)  # the disk may not be mounted
    stored(tmp_path, record, 1, "intact")
    prune(Directory(tmp_path), "zap", Policy(), record, plan_only=True)
    assert record.verified(str(gone), url)
    prune(Directory(tmp_path), "zap", Policy(), record)
    assert record.verified(str(gone), url) is None
    assert len(record.archives) == 2
