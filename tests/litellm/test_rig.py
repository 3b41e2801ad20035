"""The LiteLLM of the tests behaves as the real one does, because it is the real one."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
import requests

from swarm.deadline import Deadline
from tools.litellm.rig import CONFIG_MODEL

if TYPE_CHECKING:
    from tests.litellm.conftest import Lite
    from tools.litellm.rig import Proxy

pytestmark = pytest.mark.slow


def _chat(proxy: Proxy, model: str) -> requests.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    with requests.Session() as session:
        session.trust_env = False
        headers = {"Authorization": f"Bearer {proxy.master_key}"}
        return session.post(f"{proxy.url}/v1/chat/completions", json=body, headers=headers, timeout=60)


def test_an_added_model_is_listed(lite: Lite) -> None:
    """A model that is added through the API is listed, beside that of the configuration file."""
    row_id = str(uuid.uuid4())
    lite.client.add_model("one", lite.proxy.params(), {"id": row_id})
    rows = {row.name: row for row in lite.client.rows()}
    assert rows.keys() == {"one", CONFIG_MODEL}
    assert rows["one"].id == row_id
    assert rows["one"].from_db
    assert not rows[CONFIG_MODEL].from_db


def test_each_test_begins_without_rows(lite: Lite) -> None:
    """Models, credentials and settings of an earlier test are gone."""
    lite.client.add_model("left", lite.proxy.params(), {"id": str(uuid.uuid4())})
    lite.client.add_credential("left", {"api_key": "sk-left"}, {})
    lite.proxy.psql("""insert into "LiteLLM_Config" values ('general_settings', '{}')""")
    lite.proxy.reset()
    assert [row.name for row in lite.client.rows()] == [CONFIG_MODEL]
    assert lite.client.credentials() == []
    tables = ("LiteLLM_ProxyModelTable", "LiteLLM_CredentialsTable", "LiteLLM_Config")
    assert [lite.proxy.psql(f'select count(*) from "{name}"') for name in tables] == ["0", "0", "0"]  # noqa: S608


def test_the_provider_receives_the_credentials_key(lite: Lite) -> None:
    """A request to a model with a credential reaches the provider with that credential's key."""
    lite.client.add_credential("Open AI/Key 1", {"api_key": "sk-of-the-credential"}, {})
    params = {
        "model": "openai/gpt-4o-mini",
        "api_base": lite.proxy.upstream.url,
        "litellm_credential_name": "Open AI/Key 1",
    }
    lite.client.add_model("two", params, {"id": str(uuid.uuid4())})
    answer = _chat(lite.proxy, "two")
    assert answer.status_code == 200, answer.text
    assert [request.key for request in lite.proxy.upstream.requests] == ["sk-of-the-credential"]
    assert lite.proxy.upstream.requests[0].body["messages"][0]["content"] == "hello"


@pytest.mark.parametrize("status", [401, 429])
def test_the_provider_refuses_on_request(lite: Lite, status: int) -> None:
    """An error of the provider reaches the client with its status."""
    lite.client.add_model("refused", lite.proxy.params(), {"id": str(uuid.uuid4())})
    lite.proxy.upstream.status = status
    assert _chat(lite.proxy, "refused").status_code == status
    assert lite.proxy.upstream.requests


def test_a_thousand_seeded_models_are_listed(lite: Lite) -> None:
    """1,000 rows that were written straight into PostgreSQL are listed, decrypted."""
    ids = lite.proxy.seed(1000)
    rows = [row for row in lite.client.rows() if row.from_db]
    assert {row.id for row in rows} == set(ids)
    assert {row.provider_model for row in rows} == {"openai/gpt-4o-mini"}
    assert {row.params["api_base"] for row in rows} == {lite.proxy.upstream.url}


def test_readiness_follows_the_database(lite: Lite) -> None:
    """Without PostgreSQL, readiness is 503 and liveliness 200. The proxy recovers by itself when it is back."""
    lite.proxy.database.stop()
    deadline = Deadline(60)
    while (health := lite.client.health("readiness")).status == 200:
        assert deadline.pause(0.5), health
    assert health.status == 503
    assert lite.client.health("liveliness").status == 200
    before = lite.proxy.pid
    lite.proxy.database.start()
    lite.proxy.wait()
    assert lite.proxy.pid == before


def test_a_killed_proxy_starts_again(lite: Lite) -> None:
    """A killed proxy does not answer, and has its models after the next start."""
    row_id = str(uuid.uuid4())
    lite.client.add_model("kept", lite.proxy.params(), {"id": row_id})
    lite.proxy.kill()
    assert lite.client.health("liveliness").status == 0
    lite.proxy.start()
    assert row_id in {row.id for row in lite.client.rows()}
