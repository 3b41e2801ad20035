"""`inv litellm.init` against a real LiteLLM with a real PostgreSQL."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requests

from swarm.console import Talk, screen
from swarm.litellm import apply, environment, wanted
from swarm.litellm.client import Client
from swarm.paths import state_dir
from tests.litellm.support import KEY, inv, models_file, script_row, set_variable
from tools.litellm.relay import Relay, Rule, relaying

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.litellm.conftest import Lite

MINI = "{name: mini, model: openai/gpt-5-mini, credential: Open AI/Key 1}"
NANO = "{name: nano, model: openai/gpt-5-nano, credential: Open AI/Key 1}"


@pytest.fixture(autouse=True)
def _key(lite: Lite) -> None:
    set_variable(lite.folder, "OPENAI_API_KEY", KEY)


@pytest.fixture
def relay(lite: Lite) -> Iterator[Relay]:
    """Give a relay in front of the proxy, at which litellm/.env points."""
    with relaying(lite.proxy.url) as found:
        set_variable(lite.folder, "LITELLM_URL", found.url)
        yield found


def names(lite: Lite) -> list[str]:
    """Return the names of the database's models, sorted."""
    return sorted(row.name for row in lite.client.rows() if row.from_db)


def chat(lite: Lite, model: str) -> requests.Response:
    """Ask a model something, as an agent does."""
    return requests.post(
        f"{lite.proxy.url}/v1/chat/completions",
        json={"model": model, "messages": [{"role": "user", "content": "hi"}]},
        headers={"Authorization": f"Bearer {lite.proxy.master_key}"},
        timeout=60,
    )


def test_first_and_second_run(lite: Lite, relay: Relay) -> None:
    """The first run registers everything; the second makes two requests and writes nothing."""
    models_file(lite.folder, lite.proxy.upstream.url, MINI, NANO)
    assert inv("litellm.init").code == 0
    assert names(lite) == ["mini", "nano"]
    relay.seen.clear()
    second = inv("litellm.init")
    assert (second.code, second.err.strip()) == (0, "nothing to do")
    assert relay.seen == ["GET /credentials", "GET /model/info"]


def test_the_provider_gets_the_key(lite: Lite) -> None:
    """The provider sees the key of litellm/.env, and after a rotation the new one."""
    models_file(lite.folder, lite.proxy.upstream.url, MINI)
    inv("litellm.init")
    assert chat(lite, "mini").status_code == 200
    assert lite.proxy.upstream.requests[-1].headers["authorization"] == f"Bearer {KEY}"
    set_variable(lite.folder, "OPENAI_API_KEY", "sk-rotated-0123456789")
    rotated = inv("litellm.init", "--json")
    assert [each["note"] for each in rotated.data["changes"]] == ["the key changed"]
    chat(lite, "mini")
    assert lite.proxy.upstream.requests[-1].headers["authorization"] == "Bearer sk-rotated-0123456789"


def test_one_run_at_a_time(lite: Lite, relay: Relay) -> None:
    """A run waits for another one on this machine before it looks at anything."""
    models_file(lite.folder, lite.proxy.upstream.url, MINI)
    with ThreadPoolExecutor(1) as pool:
        with apply.exclusive(Talk(screen(), quiet=True)):
            run = pool.submit(inv, "litellm.init")
            time.sleep(3)  # many times what a run takes that does not wait
            assert relay.seen == []
        assert run.result().code == 0
    assert names(lite) == ["mini"]


def test_plan_changes_nothing(lite: Lite, relay: Relay) -> None:
    """--plan shows the difference, without the key, and sends no write request."""
    models_file(lite.folder, lite.proxy.upstream.url, MINI)
    shown = inv("litellm.init", "--plan")
    assert "+ model mini: openai/gpt-5-mini with Open AI/Key 1" in shown.err
    assert all(each.startswith("GET ") for each in relay.seen)


def test_update_and_replacement(lite: Lite) -> None:
    """A parameter is changed in place, and one that must go is gone afterwards."""
    url = lite.proxy.upstream.url
    models_file(lite.folder, url, MINI.replace("}", ", params: {rpm: 5, timeout: 30}}"))
    inv("litellm.init")
    (before,) = [row for row in lite.client.rows() if row.from_db]
    models_file(lite.folder, url, MINI.replace("}", ", params: {rpm: 9, timeout: 30}}"))
    assert "~ model mini: rpm 5 → rpm 9" in inv("litellm.init").err
    models_file(lite.folder, url, MINI.replace("}", ", params: {rpm: 9}}"))
    assert "timeout must go" in inv("litellm.init", "--yes").err
    (after,) = [row for row in lite.client.rows() if row.from_db]
    assert (after.id, after.params.get("rpm"), after.params.get("timeout")) == (before.id, 9, None)


def test_replacing_asks(lite: Lite) -> None:
    """What replaces or deletes a model needs --yes where nobody can be asked."""
    models_file(lite.folder, lite.proxy.upstream.url, MINI)
    inv("litellm.init")
    models_file(lite.folder, lite.proxy.upstream.url)
    refused = inv("litellm.init", "--prune")
    assert (refused.code, names(lite)) == (1, ["mini"])
    assert "--yes" in refused.err
    assert inv("litellm.init", "--prune", "--yes").code == 0
    assert (names(lite), lite.client.credentials()) == ([], lite.client.credentials())


def test_import_of_script_rows(lite: Lite) -> None:
    """Rows that the old script posted, twice, become one row with the deterministic id; another key's row stays."""
    url = lite.proxy.upstream.url
    for key in (KEY, KEY, "sk-second-account-00"):
        lite.post("/model/new", script_row("gpt", url, key))
    models_file(lite.folder, url, "{name: gpt, model: openai/gpt-5, credential: Open AI/Key 1}")
    done = inv("litellm.init", "--yes")
    assert "imported from another tool's row and 1 more" in done.err
    assert "its key is not that of litellm/.env" in done.err
    assert names(lite) == ["gpt", "gpt"]
    assert "nothing to do" in inv("litellm.init", "--yes").err


def test_models_of_the_configuration_stay_listed(lite: Lite) -> None:
    """An update of a database model does not make the models of config.yaml disappear."""
    before = [row.name for row in lite.client.rows() if not row.from_db]
    models_file(lite.folder, lite.proxy.upstream.url, MINI)
    inv("litellm.init")
    models_file(lite.folder, lite.proxy.upstream.url, MINI.replace("}", ", params: {rpm: 5}}"))
    inv("litellm.init")
    assert before
    assert [row.name for row in lite.client.rows() if not row.from_db] == before


def test_unset_variable(lite: Lite, relay: Relay) -> None:
    """A variable that is not set is named, and nothing is sent."""
    models_file(lite.folder, lite.proxy.upstream.url, MINI)
    set_variable(lite.folder, "OPENAI_API_KEY", "")
    failed = inv("litellm.init")
    assert failed.code == 1
    assert "models.yaml:3: credentials[1].key_env: OPENAI_API_KEY is not set" in failed.err
    assert not relay.seen


def test_only_a_description_changes(lite: Lite) -> None:
    """A new description leaves the key in place: the provider still gets it, and never a mask."""
    models_file(lite.folder, lite.proxy.upstream.url, MINI)
    inv("litellm.init")
    text = (lite.folder / "models.yaml").read_text(encoding="utf-8")
    new = text.replace("    key_env", "    description: mine\n    key_env")
    (lite.folder / "models.yaml").write_text(new, encoding="utf-8")
    assert "description changed; the key stays" in inv("litellm.init").err
    chat(lite, "mini")
    assert lite.proxy.upstream.requests[-1].headers["authorization"] == f"Bearer {KEY}"


# ── broken answers ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_saved_but_500(lite: Lite, relay: Relay) -> None:
    """After a 500 for a model that was saved nevertheless, nothing is posted again."""
    models_file(lite.folder, lite.proxy.upstream.url, MINI, NANO)
    relay.rules.append(Rule("POST /model/new", status=500, body=b'{"error": {"message": "boom"}}'))
    assert inv("litellm.init").code == 0
    assert (relay.count("POST /model/new"), names(lite)) == (2, ["mini", "nano"])


def test_failed_once(lite: Lite, relay: Relay) -> None:
    """After a 500 for a model that was not saved, a listing shows that it is missing, and it is posted once more."""
    models_file(lite.folder, lite.proxy.upstream.url, MINI, NANO)
    relay.rules.append(Rule("POST /model/new", forward=False, status=500))
    assert inv("litellm.init").code == 0
    assert (relay.count("POST /model/new"), names(lite)) == (3, ["mini", "nano"])


def test_blocked_models_stay_blocked(lite: Lite) -> None:
    """A block survives when a script's row is taken over, whose key LiteLLM then hides, and when a row is replaced."""
    url = lite.proxy.upstream.url
    made = lite.post("/model/new", script_row("gpt", url))
    lite.client.update_model(made["model_id"], {"blocked": True})
    model = "{name: gpt, model: openai/gpt-5, credential: Open AI/Key 1, params: {rpm: 5}}"
    models_file(lite.folder, url, model)
    assert "it is blocked, so its key can't be compared" in inv("litellm.init", "--yes").err
    assert [row.blocked for row in lite.client.rows() if row.from_db] == [True, True]
    lite.client.delete_model(made["model_id"])
    models_file(lite.folder, url, model.replace(", params: {rpm: 5}", ""))
    assert "rpm must go" in inv("litellm.init", "--yes").err
    assert [row.blocked for row in lite.client.rows() if row.from_db] == [True]


def test_lost_answer(lite: Lite, relay: Relay) -> None:
    """A connection that breaks before the answer ends neither the run nor makes a second row."""
    models_file(lite.folder, lite.proxy.upstream.url, MINI, NANO)
    relay.rules.append(Rule("POST /model/new", status=0))
    assert inv("litellm.init").code == 0
    assert (relay.count("POST /model/new"), names(lite)) == (2, ["mini", "nano"])


def test_not_saved(lite: Lite, relay: Relay) -> None:
    """A 200 for a model that is not there afterwards is an error that names it; the others are registered."""
    models_file(lite.folder, lite.proxy.upstream.url, MINI, NANO)
    relay.rules.append(Rule("POST /model/new", forward=False, times=3))
    failed = inv("litellm.init")
    assert failed.code == 1
    assert "did not save" in failed.err
    assert "litellm.doctor" in failed.err


def test_one_refused_model(lite: Lite, relay: Relay) -> None:
    """A model that LiteLLM refuses is named with its reason; the others are registered."""
    models_file(lite.folder, lite.proxy.upstream.url, MINI, NANO)
    relay.rules.append(
        Rule("POST /model/new", forward=False, status=400, body=b'{"error": {"message": "no"}}')
    )
    failed = inv("litellm.init")
    assert failed.code == 1
    assert "register mini: LiteLLM answered 400 (no)" in failed.err
    assert names(lite) == ["nano"]
    assert inv("litellm.init").code == 0


def test_slow_addition(lite: Lite, relay: Relay) -> None:
    """One addition that answers too late neither stops nor repeats the others."""
    models_file(lite.folder, lite.proxy.upstream.url, MINI, NANO)
    relay.rules.append(Rule("POST /model/new", delay=3))
    variables = environment.read()
    with Client(relay.url, variables.master_key, timeout=1) as client:
        apply.bring(client, wanted.resolve(wanted.load(), variables), Talk(screen(), quiet=True))
    assert (relay.count("POST /model/new"), names(lite)) == (2, ["mini", "nano"])


@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b"[]", b"{", b'{"data": 5}', b'{"data": [1, null]}', b""]
)
def test_something_else_answers(lite: Lite, relay: Relay, body: bytes) -> None:
    """Whatever another server answers to the listing becomes one sentence."""
    models_file(lite.folder, lite.proxy.upstream.url, MINI)
    relay.rules.append(Rule("GET /model/info", forward=False, status=200, body=body, times=9))
    done = inv("litellm.init", "--plan")
    assert done.code == 1
    assert "error: list the models: " in done.err
    assert "does not answer as LiteLLM does" in done.err


def test_echoed_key_is_masked(lite: Lite, relay: Relay) -> None:
    """A key that the server repeats in an error does not reach the terminal."""
    models_file(lite.folder, lite.proxy.upstream.url, MINI)
    body = f'{{"error": {{"message": "bad key {KEY} and {lite.proxy.master_key}"}}}}'.encode()
    relay.rules.append(Rule("POST /credentials", forward=False, status=400, body=body))
    failed = inv("litellm.init")
    assert "bad key *** and ***" in failed.err
    assert lite.proxy.master_key not in failed.err


def test_no_other_file_holds_the_key(lite: Lite, relay: Relay) -> None:
    """After a registration, a failure and a health check, the key is in .env alone: in no state file, and in no log."""
    models_file(lite.folder, lite.proxy.upstream.url, MINI, NANO)
    relay.rules.append(Rule("POST /model/new", forward=False, status=400, body=KEY.encode()))
    assert inv("litellm.init").code == 1
    assert inv("litellm.init").code == 0
    assert inv("litellm.health").code == 0
    assert inv("litellm.dedup", "--dry-run").code == 0
    files = [path for folder in (lite.folder, state_dir()) for path in folder.rglob("*") if path.is_file()]
    assert [path.name for path in files if KEY in path.read_text(encoding="utf-8")] == [".env"]
    assert KEY not in lite.proxy.log.read_text(encoding="utf-8", errors="replace")


def test_wrong_key(lite: Lite) -> None:
    """A wrong master key is one sentence with the variable to correct."""
    models_file(lite.folder, lite.proxy.upstream.url, MINI)
    set_variable(lite.folder, "LITELLM_MASTER_KEY", "sk-wrong-0123456789")
    failed = inv("litellm.init")
    assert failed.code == 1
    assert "does not accept the master key" in failed.err
    assert "sk-wrong" not in failed.err


def test_database_goes_and_comes_back(lite: Lite) -> None:
    """Without its database LiteLLM's error is one sentence; when it is back, the same command succeeds."""
    models_file(lite.folder, lite.proxy.upstream.url, MINI)
    lite.proxy.database.stop()
    try:
        failed = inv("litellm.init")
    finally:
        lite.proxy.database.start()
    assert failed.code == 1
    assert "can't reach its database" in failed.err
    lite.proxy.wait()
    assert inv("litellm.init").code == 0
    assert names(lite) == ["mini"]


def test_a_thousand_rows(lite: Lite, relay: Relay) -> None:
    """A plan beside 1,000 other models takes two requests."""
    lite.proxy.seed(1000)
    models_file(lite.folder, lite.proxy.upstream.url, MINI)
    shown = inv("litellm.init", "--plan")
    assert shown.code == 0
    assert relay.seen == ["GET /credentials", "GET /model/info"]
    assert len(inv("litellm.models", "--json").data) > 1000
