"""What counts as a loss."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.backup.guards import After, Before, losses

TABLES = st.dictionaries(st.text(max_size=5), st.integers(0, 1000), max_size=4)


@given(st.dictionaries(st.text(min_size=1, max_size=5), TABLES, max_size=4), st.integers(0, 100))
def test_nothing_changed_nothing_lost(databases: dict[str, dict[str, int]], limit: int) -> None:
    """The same files and rows are no loss, whatever the limit."""
    folders = {"agents": 3, "empty": 0}
    assert losses(Before(3, folders, databases), After(folders, 0, databases), limit) == []


def test_the_first_backup_loses_nothing() -> None:
    """Without a mirror there is nothing to lose."""
    assert losses(Before(), After({"agents": 0}, 0, {"a.sqlite": {}}), 0) == []


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ({"agents": 0}, ["agents/ is empty in the guest; the mirror has 3 files in it"]),
        ({}, ["agents/ is missing in the guest; the mirror has 3 files in it"]),
        ({"agents": -1}, []),
        ({"agents": 1}, []),
    ],
)
def test_required_folders(folders: dict[str, int], expected: list[str]) -> None:
    """A folder with files in the mirror may be excluded, but not empty or missing."""
    assert losses(Before(3, {"agents": 3}), After(folders), 25) == expected


def test_a_folder_that_became_a_file_or_a_link() -> None:
    """A folder with files in the mirror may not become a file or a link in the guest, whatever the limit allows."""
    after = After({"agents": 1, "cron": 1, ".env": 1}, 3, leaves={"agents", "cron", ".env"})
    assert losses(Before(90, {"agents": 3, "cron": 0}), after, 25) == [
        "agents/ is a file or a link instead of a directory in the guest; the mirror has 3 files in it"
    ]


@pytest.mark.parametrize(("deleted", "lost"), [(0, False), (25, False), (26, True), (100, True)])
def test_deletions(deleted: int, lost: bool) -> None:  # noqa: FBT001 - a parameter
    """More deletions than the limit allows are a loss."""
    expected = [f"{deleted} of the mirror's 100 files would be deleted; the limit is 25 %"] if lost else []
    assert losses(Before(100), After({}, deleted), 25) == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"t": 5}, None, "the database is missing in the guest"),
        ({"t": 0}, None, None),
        (None, None, "the database is missing in the guest"),
        ({"t": 5}, {}, "the database no longer has any tables"),
        ({"t": 0}, {}, "the database no longer has any tables"),
        (None, {}, "the database no longer has any tables"),
        (None, {"t": 0}, None),
        ({}, {}, None),
        ({"t": 5, "u": 1}, {"u": 900}, "the database has lost the table t"),
        ({"t": 5, "u": 1, "v": 1}, {"v": 900}, "the database has lost the table t and 1 more"),
        ({"t": 0, "u": 1}, {"u": 1}, None),
        ({"t": 100}, {"t": 75}, None),
        ({"t": 100}, {"t": 74}, "the database has lost 26 of 100 rows; the limit is 25 %"),
        ({"t": 9}, {"t": 0}, None),
        ({"t\x1b": 9}, {"u": 1}, "the database has lost the table t\\x1b"),
        ({"t": 26, "u": 74}, {"t": 0, "u": 900}, "the database has lost all 26 rows of the table t"),
        (
            {"t\x1b": 50, "u": 50},
            {"t\x1b": 0, "u": 900},
            "the database has lost all 50 rows of the table t\\x1b",
        ),
        ({"queue": 25, "u": 75}, {"queue": 0, "u": 100}, None),
        ({"queue": 9, "u": 1}, {"queue": 0, "u": 10}, None),
        ({"t": 90, "u": 10}, {"t": 1, "u": 99}, None),
    ],
)
def test_databases(before: dict[str, int] | None, after: dict[str, int] | None, expected: str | None) -> None:
    """Lost databases, tables and rows are losses, whatever other tables have gained; queues and few rows are not."""
    found = losses(
        Before(databases={"a": before}), After(databases={} if after is None else {"a": after}), 25
    )
    assert found == ([f"a: {expected}"] if expected else [])
