"""Retention: what stays is decided by what is verified, in UTC, and never by a foreign name."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.backup.naming import Name, parse
from swarm.backup.retention import Policy, latest, removable

_NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
_TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(  # noqa: DTZ001 - the zone is added here
    lambda time: time.replace(microsecond=0, tzinfo=UTC)
)
_NAMES = st.lists(st.builds(Name, host=st.just("zap"), created=_TIMES, encrypted=st.booleans()), max_size=40)
_COUNTS = st.integers(0, 10)
_POLICIES = st.builds(Policy, keep=_COUNTS, daily=_COUNTS, weekly=_COUNTS, monthly=_COUNTS)


def days_ago(*days: float) -> list[Name]:
    """Return archives that are so many days old."""
    return [Name("zap", _NOW - timedelta(days=each)) for each in days]


@pytest.mark.parametrize(
    ("policy", "ages", "removed"),
    [
        (Policy(keep=7), range(10), [9, 8, 7]),
        (Policy(keep=7), range(7), []),
        (Policy(keep=1), [0, 1], [1]),
        (Policy(keep=0), [0, 1], [1]),  # the newest stays whatever the policy says
        (Policy(keep=1), [], []),
        (Policy(keep=1, daily=3), [0, 0.1, 1, 1.1, 2, 3], [3, 1.1, 0.1]),
        (Policy(keep=1, weekly=2), [0, 1, 2, 3, 4, 8], [8, 4, 2, 1]),
        (Policy(keep=1, monthly=2), [0, 10, 30, 40, 70], [70, 40, 10]),
    ],
)
def test_what_a_policy_removes(policy: Policy, ages: list[float], removed: list[float]) -> None:
    """The newest stay, and the newest of each day, week and month; the rest goes, oldest first."""
    assert removable(days_ago(*ages), policy, _NOW) == days_ago(*removed)


@pytest.mark.parametrize("zone", ["UTC0", "AAA-14", "BBB+11", "EST5EDT,M3.2.0,M11.1.0"])
def test_the_time_zone_does_not_matter(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    """Days are those of UTC, and an hour that a local clock repeats gives two names (restic#2233, sanoid#155)."""
    first, *more = made = [
        Name("zap", datetime(2026, *when, 30, tzinfo=UTC))
        for when in ((10, 31, 23), (11, 1, 0), (11, 1, 5), (11, 1, 6))
    ]
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        texts = [name.archive for name in made]
        found = [each[0] for text in texts if (each := parse(text))]
        removed = removable(found, Policy(keep=1, daily=2), datetime.now(UTC).replace(2026, 11, 1, 7))
    time.tzset()
    assert (found, sorted(set(texts))) == (made, texts)
    assert removed == more[:2]
    assert first not in removed


@given(_NAMES, _POLICIES)
def test_the_newest_verified_archive_is_never_removed(names: list[Name], policy: Policy) -> None:
    """Whatever is listed and whatever the policy, the newest archive stays, and so do as many as `keep` says."""
    removed = removable(names, policy, _NOW)
    newest = latest(names, _NOW)
    assert newest is None or newest not in removed
    past = {name for name in names if name.created <= _NOW}
    assert len(past - set(removed)) >= min(len(past), policy.keep)
    assert set(removed) <= set(names)


@given(_NAMES, _POLICIES, st.randoms(use_true_random=False))
def test_the_order_of_a_listing_does_not_matter(names: list[Name], policy: Policy, random: object) -> None:
    """An unsorted listing, or one that repeats names, gives the same result."""
    shuffled = names + names[:3]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert removable(shuffled, policy, _NOW) == removable(names, policy, _NOW)


@given(_NAMES, _POLICIES)
def test_archives_of_the_future_neither_count_nor_go(names: list[Name], policy: Policy) -> None:
    """An archive from a wrong clock is not `latest`, is not removed, and pushes nothing out."""
    past = [name for name in names if name.created <= _NOW + timedelta(minutes=10)]
    assert removable(names, policy, _NOW) == removable(past, policy, _NOW)
    assert latest(names, _NOW) == latest(past, _NOW)


@given(_NAMES, _POLICIES)
def test_a_second_pass_removes_nothing(names: list[Name], policy: Policy) -> None:
    """What stays after one pass stays after the next."""
    left = set(names) - set(removable(names, policy, _NOW))
    assert removable(left, policy, _NOW) == []


def test_the_repeated_hour_is_two_hours() -> None:
    """Names are in UTC: both passes of the hour that is repeated in autumn have their own name (restic#2233)."""
    first = datetime.fromisoformat("2026-10-25T02:30:00+02:00")
    second = datetime.fromisoformat("2026-10-25T02:30:00+01:00")
    names = [str(Name("zap", time.astimezone(UTC))) for time in (first, second)]
    assert names == ["zap-20261025t003000z", "zap-20261025t013000z"]


@pytest.mark.parametrize(
    "name",
    [
        "zap-20261125t030000z",
        "zap-20261125t030000z.tar.gz",
        "zap-20261125t030000z.tar.zst.part",
        "zap-20261325t030000z.tar.zst",
        "zap-20261125t030000z.summary.json.age",
        "ZAP-20261125t030000z.tar.zst",
        "x/zap-20261125t030000z.tar.zst",
        "../zap-20261125t030000z.tar.zst",
        "zap-20261125t030000z.tar.zst\n",
        "-20261125t030000z.tar.zst",
        "notes.txt",
        "",
    ],
)
def test_foreign_names_are_never_parsed(name: str) -> None:
    """What is not exactly the name of one of our objects is none of our business."""
    assert parse(name) is None


@given(st.text(max_size=60))
def test_only_our_own_names_parse(text: str) -> None:
    """Whatever parses is one of the objects of the archive that it names."""
    if parsed := parse(text):
        name = parsed[0]
        assert text in {*name.objects, *Name(name.host, name.created, encrypted=True).objects}


@given(
    st.builds(
        Name,
        host=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,31}", fullmatch=True),
        created=_TIMES,
        encrypted=st.booleans(),
    )
)
def test_every_object_of_an_archive_parses(name: Name) -> None:
    """Each object leads back to its archive, also for a host whose name contains a hyphen."""
    assert {parse(each) is not None for each in name.objects} == {True}
    assert parse(name.archive) == (name, "tar.zst")
    assert parse(name.manifest) == (name, "manifest.json.zst")


def test_another_host_with_the_same_beginning_is_another_host() -> None:
    """`zap-2` is not `zap`."""
    parsed = parse("zap-2-20261125t030000z.tar.zst")
    assert parsed
    assert parsed[0].host == "zap-2"
