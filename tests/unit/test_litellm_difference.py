"""What `inv litellm.init` would change, for each state of the proxy."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.litellm.client import Credential, Row
from swarm.litellm.difference import Observed, compare, mask_fits
from swarm.litellm.identity import MARK, deployment_id
from swarm.litellm.wanted import Deployment, Wanted
from tests.unit.litellm_rows import (
    KEY,
    carried_out,
    deployment,
    registered,
    row,
    shown,
    wanted,
    wanted_credential,
)

EMPTY = Observed([], [])


def lines(difference: object) -> list[str]:
    """Return the plan's lines."""
    return [change.line() for change in difference.plan]  # type: ignore[attr-defined]


def settled(*deployments: Deployment) -> Observed:
    """Return the state after a first run."""
    return carried_out(EMPTY, compare(wanted(*deployments), EMPTY).works)


def test_first_run() -> None:
    """A first run creates the credentials before the models that use them."""
    assert lines(compare(wanted(deployment()), EMPTY)) == [
        "+ credential openai: api_key",
        "+ model gpt: openai/gpt-5 with openai",
    ]


def test_second_run() -> None:
    """A second run changes nothing and has nothing to remark."""
    found = compare(wanted(deployment(rpm=5, timeout=30)), settled(deployment(rpm=5, timeout=30)))
    assert (found.works, found.notes) == ((), ())


def test_numbers_are_compared_by_value() -> None:
    """A timeout of 30, which the API shows as 30.0, is no drift."""
    seen = settled(deployment(timeout=30))
    seen = replace(seen, rows=[replace(each, params={**each.params, "timeout": 30.0}) for each in seen.rows])
    assert not compare(wanted(deployment(timeout=30)), seen).works


def test_update_in_place() -> None:
    """A changed parameter is updated under the same id."""
    found = compare(wanted(deployment(rpm=9)), settled(deployment(rpm=5)))
    assert lines(found) == ["~ model gpt: rpm 5 → rpm 9"]
    assert found.works[0].old[0].id == deployment().id


def test_drift_is_seen() -> None:
    """A parameter that somebody changed in the user interface is set again."""
    seen = settled(deployment(rpm=5))
    seen = replace(seen, rows=[replace(each, params={**each.params, "rpm": 7}) for each in seen.rows])
    assert lines(compare(wanted(deployment(rpm=5)), seen)) == ["~ model gpt: rpm 7 → rpm 5"]


def test_parameter_that_must_go() -> None:
    """A parameter that models.yaml no longer has makes a replacement under the same id, because PATCH only merges."""
    found = compare(wanted(deployment()), settled(deployment(rpm=5)))
    assert lines(found) == ["± model gpt: rpm 5 (rpm must go)"]
    assert found.works[0].op == "replace_model"
    assert not compare(wanted(deployment()), carried_out(settled(deployment(rpm=5)), found.works)).works


def test_hidden_parameter_is_unknown() -> None:
    """A parameter that the API never shows is reported as unknown, and is no drift."""
    hidden = deployment(aws_secret_mode="x")
    found = compare(wanted(hidden), settled(hidden))
    assert not found.works
    assert found.notes == ("gpt: aws_secret_mode is unknown, because the API does not show it",)


def test_hidden_parameter_changes() -> None:
    """A change of a hidden parameter in models.yaml is written, although the API shows no difference."""
    found = compare(wanted(deployment(aws_secret_mode="y")), settled(deployment(aws_secret_mode="x")))
    assert [work.op for work in found.works] == ["update_model"]


def test_config_models_are_left_alone() -> None:
    """Rows of config.yaml are never replaced, deleted or taken for copies."""
    config = replace(row(), from_db=False)
    seen = settled(deployment())
    assert not compare(wanted(deployment()), replace(seen, rows=[config, *seen.rows]), prune=True).works


# ── credentials ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rotation_is_seen() -> None:
    """A new key in litellm/.env is written once, although the API shows only masks."""
    rotated = wanted(deployment(), credentials=[wanted_credential(key="sk-re-another-key-89")])
    found = compare(rotated, settled(deployment()))
    assert lines(found) == ["~ credential openai (the key changed)"]
    assert not compare(rotated, carried_out(settled(deployment()), found.works)).works


def test_description_alone() -> None:
    """When only the description changes, the secret stays: no value is sent, and never a mask."""
    new = wanted(deployment(), credentials=[replace(wanted_credential(), info={"description": "mine"})])
    found = compare(new, settled(deployment()))
    assert [(work.op, bool(work.patch)) for work in found.works] == [("update_credential", True)]
    assert not compare(new, carried_out(settled(deployment()), found.works)).works


def test_moved_address() -> None:
    """An api_base that somebody changed in a credential is set again."""
    base = wanted(deployment(), credentials=[wanted_credential(api_base="https://a.example")])
    seen = carried_out(EMPTY, compare(base, EMPTY).works)
    moved = [
        replace(each, values={**each.values, "api_base": "https://b.example"}) for each in seen.credentials
    ]
    assert lines(compare(base, replace(seen, credentials=moved))) == [
        "~ credential openai (api_base changed)"
    ]


def test_value_that_must_go() -> None:
    """A value that a credential no longer has makes a replacement."""
    seen = carried_out(
        EMPTY, compare(wanted(credentials=[wanted_credential(api_base="https://a.example")]), EMPTY).works
    )
    assert lines(compare(wanted(), seen)) == ["± credential openai (api_base must go)"]


def test_credential_of_another_tool() -> None:
    """A credential without swarm's mark gets the key of litellm/.env once."""
    seen = Observed([Credential("openai", {"api_key": shown(KEY)}, {})], [])
    found = compare(wanted(), seen)
    assert lines(found) == ["~ credential openai: key unknown → the key of litellm/.env"]
    assert not compare(wanted(), carried_out(seen, found.works)).works


# ── rows of other tools ──────────────────────────────────────────────────────────────────────────────────────────────


def test_import() -> None:
    """A row with the same key that a script made is replaced by one with the deterministic id."""
    seen = Observed([], [row(rpm=3)], {"old": shown(KEY)})
    found = compare(wanted(deployment()), seen)
    assert lines(found)[1] == (
        "± model gpt: openai/gpt-5 → openai/gpt-5 with openai (imported from another tool's row)"
    )
    after = carried_out(seen, found.works)
    assert [each.id for each in after.rows] == [deployment().id]
    assert not compare(wanted(deployment()), after).works


def test_import_of_several() -> None:
    """All copies that a script made are imported at once."""
    rows = [row(row_id=str(number)) for number in range(3)]
    seen = Observed([], rows, {str(number): shown(KEY) for number in range(3)})
    after = carried_out(seen, compare(wanted(deployment()), seen).works)
    assert [each.id for each in after.rows] == [deployment().id]


def test_other_key_is_kept() -> None:
    """A row whose masked key is another one may be a second account, and is kept."""
    seen = Observed([], [row()], {"old": "sk****zz"})
    found = compare(wanted(deployment()), seen)
    assert [work.op for work in found.works] == ["add_credential", "add_model"]
    assert found.notes == ("kept gpt (old): its key is not that of litellm/.env",)


def test_import_by_credential() -> None:
    """A row of the same credential is imported without a look at its key; one of another credential stays."""
    same, other = row(litellm_credential_name="openai"), row(row_id="b", litellm_credential_name="work")
    found = compare(wanted(deployment()), Observed([], [same, other]))
    assert [[each.id for each in work.old] for work in found.works if work.deployment] == [["old"]]
    assert not found.notes


def test_import_without_a_key() -> None:
    """A row without a key, such as GitHub Copilot's, is imported if none is wanted; a key is never dropped."""
    copilot = deployment(model="github_copilot/gpt-5", credential=None)
    seen = Observed([], [row(model="github_copilot/gpt-5")], {"old": None})
    assert [work.op for work in compare(wanted(copilot, credentials=[]), seen).works] == ["replace_model"]
    keyed = Observed([], seen.rows, {"old": "sk****89"})
    assert [work.op for work in compare(wanted(copilot, credentials=[]), keyed).works] == ["add_model"]


def test_renamed_row() -> None:
    """A row that somebody renamed in the user interface gets its name back."""
    seen = settled(deployment())
    seen = replace(seen, rows=[replace(each, name="mine") for each in seen.rows])
    found = compare(wanted(deployment()), seen)
    assert [(work.op, work.patch["model_name"]) for work in found.works] == [("update_model", "gpt")]


def test_details_are_compared() -> None:
    """An entry of model_info that differs is written."""
    detailed = replace(deployment(), info={"mode": "chat"})
    seen = settled(detailed)
    seen = replace(seen, rows=[replace(each, info={**each.info, "mode": "embedding"}) for each in seen.rows])
    assert lines(compare(wanted(detailed), seen)) == ["~ model gpt (info.mode)"]


def test_partial_wish() -> None:
    """The addition of one model says nothing about the others."""
    one, other = deployment(), deployment(name="other")
    found = compare(replace(wanted(one), partial=True), settled(one, other), prune=True)
    assert (found.works, found.notes) == ((), ())


def test_copy_beside_ours() -> None:
    """A copy that a script adds later is deleted."""
    seen = settled(deployment())
    seen = replace(seen, rows=[*seen.rows, row()], masks={"old": shown(KEY)})
    assert [work.op for work in compare(wanted(deployment()), seen).works] == ["delete_model"]


def test_other_address_is_kept() -> None:
    """A row of the same name and model at another address is another deployment."""
    seen = settled(deployment())
    seen = replace(seen, rows=[*seen.rows, row(api_base="http://other")], masks={"old": shown(KEY)})
    assert not compare(wanted(deployment()), seen).works


def test_blocked_stays_blocked() -> None:
    """A blocked row stays blocked when it is replaced."""
    blocked = replace(row(), info={"id": "old", "db_model": True, "blocked": True})
    seen = Observed([], [blocked], {"old": shown(KEY)})
    after = carried_out(seen, compare(wanted(deployment()), seen).works)
    assert [each.blocked for each in after.rows] == [True]


def test_block_without_a_mask() -> None:
    """A blocked row whose key the API hides is kept, and the deployment beside it is registered as blocked."""
    blocked = replace(row(), info={"id": "old", "db_model": True, "blocked": True})
    found = compare(wanted(deployment()), Observed([], [blocked], {"old": None}))
    assert [(work.op, work.blocked) for work in found.works[1:]] == [("add_model", True)]
    assert found.notes == (
        "kept gpt (old): it is blocked, so its key can't be compared; ./inv litellm.remove removes it",
    )


# ── what models.yaml no longer names ─────────────────────────────────────────────────────────────────────────────────


def test_new_model_of_the_same_name() -> None:
    """A model that moves to another provider's model replaces the old deployment."""
    found = compare(wanted(deployment(model="openai/gpt-6")), settled(deployment()))
    assert lines(found) == [
        "± model gpt: openai/gpt-5 with openai → openai/gpt-6 with openai (replaces the old deployment)"
    ]


def test_removed_model_is_kept() -> None:
    """Without --prune a model that models.yaml no longer names stays, and is named."""
    found = compare(wanted(), settled(deployment()))
    assert (found.works, found.notes) == ((), ("models.yaml no longer names gpt; --prune removes it",))


def test_prune() -> None:
    """With --prune it goes, and so does a credential that nothing uses any more."""
    found = compare(wanted(credentials=[]), settled(deployment()), prune=True)
    assert [work.op for work in found.works] == ["delete_model", "delete_credential"]


def test_prune_spares_others() -> None:
    """--prune never removes models and credentials that swarm did not make."""
    seen = Observed([Credential("mine", {}, {})], [row(name="mine")])
    assert not compare(Wanted((), ()), seen, prune=True).works


def test_prune_spares_used_credentials() -> None:
    """--prune keeps a credential that another tool's model uses."""
    seen = settled(deployment())
    seen = replace(seen, rows=[*seen.rows, row(name="mine", litellm_credential_name="openai")])
    found = compare(wanted(credentials=[]), seen, prune=True)
    assert [work.op for work in found.works] == ["delete_model"]


def test_skipped_credential() -> None:
    """The models of an optional credential without a key are neither created nor pruned."""
    seen = settled(deployment())
    skipped = Wanted((), (), {"openai": "OPENAI_API_KEY is not set"})
    found = compare(skipped, seen, prune=True)
    assert not found.works
    assert found.notes == ("skipped openai and its models: OPENAI_API_KEY is not set",)


# ── properties ───────────────────────────────────────────────────────────────────────────────────────────────────────

_NAMES = st.sampled_from(["a", "b", "c"])
_DEPLOYMENTS = st.builds(
    lambda name, model, rpm: deployment(name, f"openai/{model}", **({"rpm": rpm} if rpm else {})),
    _NAMES, st.sampled_from(["x", "y"]), st.integers(0, 2),
)  # fmt: skip
_WISHES = st.lists(_DEPLOYMENTS, max_size=4, unique_by=lambda each: each.id).map(lambda found: wanted(*found))
_ROWS = st.lists(
    st.builds(lambda name, model, number: row(name, f"openai/{model}", row_id=str(number)), _NAMES,
              st.sampled_from(["x", "y"]), st.integers(0, 99)),
    max_size=4, unique_by=lambda each: each.id,
)  # fmt: skip


@given(first=_WISHES, second=_WISHES, rows=_ROWS, prune=st.booleans())
def test_one_run_is_enough(first: Wanted, second: Wanted, rows: list[Row], *, prune: bool) -> None:
    """From any state, one run leaves nothing for a second."""
    seen = Observed([], rows, {each.id: shown(KEY) for each in rows})
    for each in (first, second):
        seen = carried_out(seen, compare(each, seen, prune=prune).works)
    assert not compare(second, seen, prune=prune).works
    assert {each.id for each in second.deployments} <= {each.id for each in seen.rows}


@given(some=_WISHES, rows=_ROWS)
def test_nothing_foreign_is_lost(some: Wanted, rows: list[Row]) -> None:
    """A row of another tool goes only when a wanted deployment of its name and model takes its place."""
    seen = Observed([], rows, {each.id: shown(KEY) for each in rows})
    after = carried_out(seen, compare(some, seen, prune=True).works)
    served = {(each.name, each.provider_model) for each in after.rows}
    assert {(each.name, each.provider_model) for each in rows} <= served


@pytest.mark.parametrize(
    ("mask", "fits"),
    [("sk****89", True), ("sk****88", False), ("xk****89", False), (KEY, True), ("sk-other", False)],
)
def test_masks(mask: str, *, fits: bool) -> None:
    """A mask fits a key with the same first and last two characters."""
    assert mask_fits(mask, KEY) is fits


def test_ids_are_frozen() -> None:
    """The id of a deployment never changes between versions: a new one would register every model twice."""
    params = {"model": "openai/gpt-5", "litellm_credential_name": "openai", "rpm": 5}
    assert deployment_id("gpt", params) == deployment_id("gpt", {**params, "rpm": 6})
    assert deployment_id("gpt", params) == FROZEN
    assert registered(deployment()).info[MARK] == deployment().mark


FROZEN = "72410be0-14ac-5538-be67-dfa7b5a5dbb5"
