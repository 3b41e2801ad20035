"""Which copies of a deployment may go."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.litellm.dedup import Verdict, decide, duplicates, readable
from tests.unit.litellm_rows import deployment, registered, row

if TYPE_CHECKING:
    from swarm.litellm.client import Row

MASK = {"api_key": "sk****89"}


def verdict(*rows: Row, masks: dict[str, Any] | None = None) -> Verdict:
    """Return what may go, where all rows without a credential have the same masked key."""
    found = {each.id: MASK for each in rows} if masks is None else masks
    return decide(duplicates(rows), found)


def gone(found: Verdict) -> list[str]:
    """Return the ids of the rows that may go."""
    return sorted(each.id for group in found.groups for each in group.delete)


def test_lowest_id_stays() -> None:
    """Of copies without a known age the one with the lowest id stays."""
    found = verdict(row(row_id="b"), row(row_id="a"), row(row_id="c"))
    assert gone(found) == ["b", "c"]
    assert found.groups[0].rule == "the lowest id"


def test_oldest_stays() -> None:
    """Where LiteLLM shows when rows were made, the oldest stays."""
    rows = [
        replace(row(row_id=name), info={"id": name, "created_at": created})
        for name, created in (("a", "2026-03-01"), ("b", "2026-01-01"), ("c", "2026-02-01"))
    ]
    assert gone(verdict(*rows)) == ["a", "c"]


def test_deterministic_id_stays() -> None:
    """The row that swarm registered stays, whatever the other ids are."""
    ours = registered(deployment())
    copy = replace(ours, id="0", info={"id": "0", "db_model": True, "blocked": False})
    assert gone(verdict(copy, ours)) == ["0"]


def test_deterministic_id_without_a_mark() -> None:
    """The id alone shows that swarm made the row, should its mark have been lost."""
    ours = registered(deployment())
    bare = {"db_model": True, "blocked": False}
    rows = [replace(ours, info={**bare, "id": ours.id}), replace(ours, id="0", info={**bare, "id": "0"})]
    assert gone(verdict(*rows)) == ["0"]


def test_plan_names_the_row_that_stays() -> None:
    """The plan says which row goes, which stays, and why."""
    found = verdict(row(row_id="b"), row(row_id="a"), masks={"a": {}, "b": {}})
    assert [change.line() for change in found.plan] == [
        "- model gpt: openai/gpt-5, id b (a copy of a, which stays: the lowest id)"
    ]


def test_plan_says_what_it_knows_of_the_keys() -> None:
    """The plan says so if the keys agree only as far as LiteLLM shows them: they may be of two accounts."""
    (change,) = verdict(row(row_id="b"), row(row_id="a")).plan
    assert "the lowest id; of their keys LiteLLM shows only four characters, which agree" in change.line()


def test_masked_keys_prove_nothing() -> None:
    """Without a question, only copies go that have a credential in common, or no key at all; the others are named."""
    named = [row("named", row_id=each, litellm_credential_name="openai") for each in "cd"]
    bare = [row("bare", row_id=each) for each in "ef"]
    masks = {"a": MASK, "b": MASK, "e": {"api_base": "http://x"}, "f": {"api_base": "http://x"}}
    found = verdict(row(row_id="a"), row(row_id="b"), *named, *bare, masks=masks)
    assert gone(found) == ["b", "d", "f"]
    assert gone(found.proved) == ["d", "f"]
    assert found.proved.uncertain[0].startswith(
        "kept 1 possible copy of gpt: LiteLLM shows only a part of the keys"
    )


def test_config_rows_are_no_copies() -> None:
    """A model of config.yaml is never deleted, and never makes a database row a copy."""
    assert not verdict(row(row_id="a"), replace(row(row_id="b"), from_db=False)).groups


@pytest.mark.parametrize(
    "other",
    [
        row(name="gpt-2", row_id="b"),
        row(model="openai/gpt-6", row_id="b"),
        row(api_base="http://elsewhere", row_id="b"),
        row(rpm=5, row_id="b"),
        row(litellm_credential_name="openai", row_id="b"),
    ],
    ids=["name", "model", "address", "limit", "credential"],
)
def test_different_rows(other: Row) -> None:
    """Rows that differ in name, parameters or credential are no copies."""
    assert not duplicates([row(row_id="a"), other])


def test_defaults_do_not_differ() -> None:
    """A row without the parameters that LiteLLM adds by itself is still a copy."""
    assert gone(verdict(row(row_id="a"), replace(row(row_id="b"), params={"model": "openai/gpt-5"}))) == ["b"]


def test_different_keys() -> None:
    """Rows with different masked keys are two accounts: both stay and are named."""
    found = verdict(row(row_id="a"), row(row_id="b"), masks={"a": MASK, "b": {"api_key": "sk****xx"}})
    assert (found.groups, found.uncertain) == ((), ("kept gpt (b) beside a: their keys differ",))


def test_vanished_row() -> None:
    """A row whose key can't be asked for, because it has vanished, is not counted as a copy."""
    found = verdict(row(row_id="a"), row(row_id="b"), masks={"a": MASK, "b": None})
    assert found.uncertain == ("kept gpt (b) beside a: its key could not be compared",)


def test_blocked_copy() -> None:
    """A blocked copy is kept: a person has blocked it on purpose."""
    blocked = replace(row(row_id="b"), info={"id": "b", "blocked": True})
    assert verdict(row(row_id="a"), blocked).uncertain == (
        "kept gpt (b) beside a: one of the two is blocked",
    )


def test_different_details() -> None:
    """A copy with other entries in model_info is kept."""
    assert verdict(row(row_id="a"), replace(row(row_id="b"), details=b'{"mode": "chat"}')).uncertain == (
        "kept gpt (b) beside a: their model_info differs",
    )


def test_unreadable_rows() -> None:
    """Rows whose parameters can't be decrypted are never copies of each other."""
    cipher = "dLTLdvj_JcWdJvIMs6ziXg9n09pVo3OpzC3gNoCBzKlikX95qMS2v6ogjqXlqxxdT-Zx7fw2D_2Cfg=="
    assert not duplicates([row(model=cipher, row_id="a"), row(model=cipher, row_id="b")])
    assert not readable(row(model=""))


_ROWS = st.lists(
    st.builds(
        lambda name, number, blocked: replace(
            row(name, row_id=str(number)), info={"id": str(number), "db_model": True, "blocked": blocked}
        ),
        st.sampled_from("ab"), st.integers(0, 99), st.booleans(),
    ),
    max_size=8, unique_by=lambda each: each.id,
)  # fmt: skip


@given(_ROWS, st.randoms(use_true_random=False))
def test_every_machine_keeps_the_same_row(rows: list[Row], random: Any) -> None:  # noqa: ANN401 - random.Random
    """The order of the listing does not matter, so that two runs at once never delete each other's keeper."""
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert gone(verdict(*rows)) == gone(verdict(*shuffled))


@given(_ROWS)
def test_each_deployment_survives(rows: list[Row]) -> None:
    """Of each deployment exactly one row per state of blocking stays at least."""
    left = {each.id for each in rows} - set(gone(verdict(*rows)))
    assert {(each.name, each.blocked) for each in rows} == {
        (each.name, each.blocked) for each in rows if each.id in left
    }
