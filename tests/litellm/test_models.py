"""`inv litellm.models`, `.add`, `.remove` and `.dedup` against a real LiteLLM."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from swarm.console import Talk, screen
from swarm.litellm import dedup
from swarm.paths import ROOT
from tests.litellm.support import KEY, inv, models_file, script_row, set_variable
from tools.litellm.relay import Rule, relaying

if TYPE_CHECKING:
    from tests.litellm.conftest import Lite

MINI = "{name: mini, model: openai/gpt-5-mini, credential: Open AI/Key 1}"


@pytest.fixture(autouse=True)
def _key(lite: Lite) -> None:
    set_variable(lite.folder, "OPENAI_API_KEY", KEY)


def duplicate(lite: Lite, name: str, times: int, key: str = KEY) -> None:
    """Register a model several times, as the old script did at each start."""
    for _ in range(times):
        lite.post("/model/new", script_row(name, lite.proxy.upstream.url, key))


def count(lite: Lite, name: str) -> int:
    """Return how many rows of the database have this name."""
    return sum(row.name == name and row.from_db for row in lite.client.rows())


def test_listing(lite: Lite) -> None:
    """The table and the JSON show source, credential, block and copies of each model."""
    models_file(lite.folder, lite.proxy.upstream.url, MINI)
    inv("litellm.init")
    duplicate(lite, "gpt", 2)
    lite.client.update_model(
        next(row.id for row in lite.client.rows() if row.name == "mini"), {"blocked": True}
    )
    found = {each["name"]: each for each in inv("litellm.models", "--json").data}
    assert (found["mini"]["credential"], found["mini"]["blocked"], found["mini"]["source"]) == (
        "Open AI/Key 1",
        True,
        "db",
    )
    assert (found["gpt"]["duplicates"], found["gpt"]["provider"], found["gpt"]["deployment"]) == (
        1,
        "openai",
        "openai/gpt-5",
    )
    assert "config" in {each["source"] for each in found.values()}
    table = inv("litellm.models")
    assert "blocked" in table.out
    assert "inv litellm.dedup" in table.err


def test_add_and_remove(lite: Lite) -> None:
    """A model is added to the file and registered at once, and removed from both."""
    models_file(lite.folder, lite.proxy.upstream.url, MINI)
    inv("litellm.init")
    base = ("--key-env", "OPENAI_API_KEY", "--api-base", lite.proxy.upstream.url)
    assert inv("litellm.add", "nano", "openai/gpt-5-nano", *base).code == 0
    assert count(lite, "nano") == 1
    assert "nothing to do" in inv("litellm.add", "nano", "openai/gpt-5-nano", *base).err
    assert inv("litellm.remove", "nano").code == 1
    assert count(lite, "nano") == 1
    assert inv("litellm.remove", "nano", "--yes").code == 0
    assert count(lite, "nano") == 0
    assert "nano" not in (lite.folder / "models.yaml").read_text(encoding="utf-8")
    assert "nothing to do" in inv("litellm.init").err


def test_an_addition_that_replaces_asks(lite: Lite) -> None:
    """An addition that would replace another tool's row needs --yes; without it, neither file nor database changes."""
    models_file(lite.folder, lite.proxy.upstream.url, MINI)
    before = (lite.folder / "models.yaml").read_bytes()
    duplicate(lite, "gpt", 1)
    (old,) = [row.id for row in lite.client.rows() if row.from_db]
    words = ("litellm.add", "gpt", "openai/gpt-5", "--credential", "Open AI/Key 1")
    refused = inv(*words)
    assert (refused.code, "--yes" in refused.err) == (1, True)
    assert (lite.folder / "models.yaml").read_bytes() == before
    assert [row.id for row in lite.client.rows() if row.from_db] == [old]
    assert inv(*words, "--yes").code == 0
    assert old not in {row.id for row in lite.client.rows()}
    assert count(lite, "gpt") == 1


def test_add_without_a_key(lite: Lite) -> None:
    """A variable that is not set is refused before the file is touched."""
    models_file(lite.folder, lite.proxy.upstream.url, MINI)
    before = (lite.folder / "models.yaml").read_bytes()
    failed = inv("litellm.add", "x", "zai/glm-5.3", "--key-env", "ZAI_API_KEY")
    assert failed.code == 1
    assert "ZAI_API_KEY is not set" in failed.err
    assert (lite.folder / "models.yaml").read_bytes() == before


def test_dedup(lite: Lite) -> None:
    """Copies go, one row of each deployment stays, and a second run has nothing to do."""
    duplicate(lite, "gpt", 4)
    duplicate(lite, "other", 1)
    shown = inv("litellm.dedup", "--dry-run")
    assert shown.err.count("- model gpt: openai/gpt-5, id ") == 3
    assert "which stays: the lowest id" in shown.err
    assert count(lite, "gpt") == 4
    assert inv("litellm.dedup", "--yes").code == 0
    assert (count(lite, "gpt"), count(lite, "other")) == (1, 1)
    assert "nothing to do" in inv("litellm.dedup", "--yes").err


def test_dedup_keeps_other_keys(lite: Lite) -> None:
    """Rows with different keys are two accounts: both stay, and are named."""
    duplicate(lite, "gpt", 1)
    duplicate(lite, "gpt", 1, "sk-second-account-00")
    done = inv("litellm.dedup", "--yes")
    assert "their keys differ" in done.err
    assert count(lite, "gpt") == 2


def test_dedup_spares_the_configuration(lite: Lite) -> None:
    """A database row with the name and parameters of a model of config.yaml is no copy of it."""
    config = next(row for row in lite.client.rows() if not row.from_db)
    lite.post("/model/new", {"model_name": config.name, "litellm_params": dict(config.params)})
    assert "nothing to do" in inv("litellm.dedup", "--yes").err


def test_two_at_once(lite: Lite) -> None:
    """Two runs at once, on machines that share no lock, leave exactly one row of each deployment."""
    duplicate(lite, "gpt", 6)
    command = [sys.executable, "-P", str(ROOT / "swarm" / "__main__.py"), "litellm.dedup", "--yes"]
    import os

    runs = [
        subprocess.Popen(
            command, env={**os.environ, "SWARM_STATE": str(lite.folder / f"state{number}")},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for number in range(2)
    ]  # fmt: skip
    said = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert count(lite, "gpt") == 1


def test_kept_row_vanishes(lite: Lite) -> None:
    """If the row that should stay is deleted meanwhile, its copies are not."""
    duplicate(lite, "gpt", 3)
    talk = Talk(screen(), quiet=True)
    verdict = dedup.inspect(lite.client, talk)
    lite.client.delete_model(verdict.groups[0].keep.id)
    assert dedup.dedup(lite.client, verdict, talk) == 0
    assert count(lite, "gpt") == 2


def test_copy_vanishes(lite: Lite) -> None:
    """A copy that somebody else deletes meanwhile is no error."""
    duplicate(lite, "gpt", 3)
    talk = Talk(screen(), quiet=True)
    verdict = dedup.inspect(lite.client, talk)
    lite.client.delete_model(verdict.groups[0].delete[0].id)
    assert dedup.dedup(lite.client, verdict, talk) == 1
    assert count(lite, "gpt") == 1


def test_dedup_after_a_lost_answer(lite: Lite) -> None:
    """A deletion whose answer is lost is looked up, not repeated blindly."""
    duplicate(lite, "gpt", 3)
    with relaying(lite.proxy.url) as relay:
        set_variable(lite.folder, "LITELLM_URL", relay.url)
        relay.rules.append(Rule("POST /model/delete", status=0))
        assert inv("litellm.dedup", "--yes").code == 0
        assert relay.count("POST /model/delete") == 2
    assert count(lite, "gpt") == 1


def test_dry_run_of_a_thousand(lite: Lite) -> None:
    """A dry run over 1,000 models without copies is one request, and writes nothing."""
    lite.proxy.seed(1000)
    with relaying(lite.proxy.url) as relay:
        set_variable(lite.folder, "LITELLM_URL", relay.url)
        assert "nothing to do" in inv("litellm.dedup", "--dry-run").err
        assert relay.seen == ["GET /model/info"]
