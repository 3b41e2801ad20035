"""A plan: lines for people, data for scripts."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from swarm.plan import SIGNS, Action, Change, Plan


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (Change("create", "network", after="default"), "+ network: default"),
        (Change("update", "memory", "1 GiB", "2 GiB"), "~ memory: 1 GiB → 2 GiB"),
        (Change("replace", "disk", "old", "new"), "± disk: old → new"),
        (Change("delete", "seed", before="left behind"), "- seed: left behind"),
        (Change("run", "start"), "▸ start"),
        (Change("update", "vCPUs", "2", "4", note="at the next start"), "~ vCPUs: 2 → 4 (at the next start)"),
        (Change("run", "reload", certain=False), "▸ reload (maybe)"),
        (
            Change("update", "file", "a", "b", note="diff below", certain=False),
            "~ file: a → b (diff below) (maybe)",
        ),
    ],
)
def test_a_change_is_one_line(change: Change, line: str) -> None:
    """A line has the sign of the action, the subject, the state before and after, and a note."""
    assert change.line() == line


def test_every_action_has_a_sign_of_its_own() -> None:
    """No two actions have the same sign."""
    assert set(SIGNS) == set(get_args(Action))
    assert len(set(SIGNS.values())) == len(SIGNS)


def test_a_plan_is_true_when_something_would_change() -> None:
    """An empty plan is false."""
    assert not Plan("zap")
    assert Plan("zap", (Change("run", "start"),))


@pytest.mark.parametrize(
    ("count", "summary"), [(0, "nothing to do"), (1, "1 change"), (2, "2 changes"), (12, "12 changes")]
)
def test_a_plan_says_how_much_it_changes(count: int, summary: str) -> None:
    """The summary counts the changes, in the singular or the plural."""
    plan = Plan("zap", (Change("run", "start"),) * count)
    assert plan.summary == summary
    assert plan.changed is (count > 0)


@pytest.mark.parametrize("action", get_args(Action))
def test_only_replacing_and_deleting_are_asked_about(action: Action) -> None:
    """A plan is destructive if any of its changes replaces or deletes something."""
    plan = Plan("zap", (Change("create", "network"), Change(action, "thing")))
    assert plan.destructive is (action in {"replace", "delete"})


def test_a_plan_keeps_its_order() -> None:
    """Changes keep the order in which they were given."""
    changes = tuple(Change("run", str(number)) for number in range(5))
    assert tuple(Plan("zap", changes)) == changes


def test_a_plan_is_plain_data_for_scripts() -> None:
    """JSON has every field that people see, and none that only the program needs."""
    plan = Plan(
        "zap", (Change("update", "memory", "1 GiB", "2 GiB", note="later", key="domain", detail="long"),)
    )
    assert json.loads(json.dumps(plan.to_json())) == {
        "host": "zap",
        "changes": [
            {
                "action": "update",
                "subject": "memory",
                "before": "1 GiB",
                "after": "2 GiB",
                "note": "later",
                "certain": True,
                "detail": "long",
            }
        ],
    }
