"""`inv litellm.health` and `.doctor` against a real LiteLLM: what is restarted, what is explained."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
import requests

from swarm.console import Talk, screen
from swarm.litellm import maintenance
from swarm.litellm.maintenance import Settings
from swarm.paths import state_dir
from tests.litellm.support import KEY, inv, models_file, script_row, set_variable
from tools.litellm.relay import Rule, relaying

if TYPE_CHECKING:
    from tests.litellm.conftest import Lite

QUICK = Settings(grace=2, start=120, pause=0.5)


class Rig:
    """The engine of these tests: it restarts the real process."""

    name = "the test"

    def __init__(self, lite: Lite, *, effect: bool = True) -> None:
        self.lite, self.effect, self.restarts = lite, effect, 0

    def restart(self) -> None:
        """Restart the proxy, or only count."""
        self.restarts += 1
        if self.effect:
            self.lite.proxy.restart()

    def database_answers(self) -> bool | None:
        """Return whether PostgreSQL accepts connections."""
        return self.lite.proxy.database.answers()

    def recent(self, minutes: int) -> str:
        """Return the proxy's log."""
        assert minutes > 0
        return self.lite.proxy.log.read_text(encoding="utf-8", errors="replace")


@pytest.fixture(autouse=True)
def _history(lite: Lite) -> None:
    set_variable(lite.folder, "OPENAI_API_KEY", KEY)
    for name in ("litellm-health.json", "litellm-maintenance.log"):
        (state_dir() / name).unlink(missing_ok=True)


def run(lite: Lite, engine: Rig, **settings: float) -> maintenance.Report:
    """Run a health check."""
    chosen = Settings(**{**vars(QUICK), **settings})
    return maintenance.run(lite.client, engine, chosen, Talk(screen(), quiet=True))


def test_healthy(lite: Lite) -> None:
    """A healthy proxy is left alone, no model is called, and a line is logged."""
    before = len(lite.proxy.upstream.requests)
    engine = Rig(lite)
    report = run(lite, engine)
    assert (report.exit_code, engine.restarts, report.finding.state) == (0, 0, "healthy")
    assert len(lite.proxy.upstream.requests) == before
    path = maintenance.log_file()
    assert path.read_text(encoding="utf-8").endswith(" healthy: LiteLLM is healthy\n")
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_log_is_rotated(lite: Lite) -> None:
    """A log of a mebibyte is set aside, and the new one belongs to its owner alone, too."""
    maintenance.log_file().parent.mkdir(parents=True, exist_ok=True)
    maintenance.log_file().write_text("x" * 1024 * 1024, encoding="utf-8")
    run(lite, Rig(lite))
    older = maintenance.log_file().with_name("litellm-maintenance.log.1")
    assert older.stat().st_size >= 1024 * 1024
    assert maintenance.log_file().read_text(encoding="utf-8").count("\n") == 1
    assert maintenance.log_file().stat().st_mode & 0o777 == 0o600


def test_status_of_a_proxy_elsewhere(lite: Lite) -> None:
    """Without Docker, the proxy at LITELLM_URL is still asked, and its state is the exit code."""
    nowhere = {"DOCKER_HOST": "unix:///nonexistent"}
    found = inv("litellm.status", "--json", **nowhere)
    assert (found.code, found.data["docker"]["ready"]) == (0, True)
    assert lite.proxy.url in inv("litellm.status", **nowhere).out
    set_variable(lite.folder, "LITELLM_URL", "http://127.0.0.1:1")
    assert inv("litellm.status", **nowhere).code == 1


def test_copies_are_removed(lite: Lite) -> None:
    """A health run removes copies, unless DEDUP=0 says otherwise. It keeps those whose keys may differ."""
    params = {"model": "openai/gpt-5", "litellm_credential_name": "no"}
    for _ in range(3):
        lite.post("/model/new", {"model_name": "gpt", "litellm_params": params})
        lite.post("/model/new", script_row("keyed", lite.proxy.upstream.url))
    assert inv("litellm.health", "--json", DEDUP="0").data["deleted"] == 0
    found = inv("litellm.health", "--json").data
    assert found["deleted"] == 2
    assert "kept 2 possible copies of keyed" in found["notes"][0]


def test_dead_process_is_restarted(lite: Lite) -> None:
    """A process that no longer answers is restarted once, and is healthy again."""
    lite.proxy.kill()
    engine = Rig(lite)
    report = run(lite, engine)
    assert (report.exit_code, report.restarted, engine.restarts) == (0, True, 1)
    assert run(lite, engine).finding.state == "healthy"
    assert engine.restarts == 1


def test_database_down(lite: Lite) -> None:
    """While PostgreSQL is down nothing is restarted, however often the check runs."""
    engine = Rig(lite)
    lite.proxy.database.stop()
    try:
        while lite.client.health("readiness").status == 200:
            time.sleep(0.2)
        reports = [run(lite, engine) for _ in range(3)]
    finally:
        lite.proxy.database.start()
        lite.proxy.wait()
    assert [each.finding.state for each in reports] == ["database down"] * 3
    assert engine.restarts == 0
    assert reports[0].exit_code == 1


def test_restart_that_does_not_help(lite: Lite) -> None:
    """Readiness stays 503 while PostgreSQL answers: one restart, then an alarm in each further run."""
    engine = Rig(lite, effect=False)
    with relaying(lite.proxy.url) as relay:
        body = json.dumps({"status": "healthy", "db": "disconnected"}).encode()
        relay.rules.append(Rule("GET /health/readiness", forward=False, status=503, body=body, times=10_000))
        lite.client.url = relay.url
        reports = [run(lite, engine, start=1) for _ in range(3)]
    assert engine.restarts == 1
    assert "a restart did not help" in str(reports[0].alarm)
    assert "the next is due in" in str(reports[1].alarm)
    assert [each.exit_code for each in reports] == [1, 1, 1]


def test_damaged_history(lite: Lite) -> None:
    """A damaged history never leads to a loop of restarts: it counts as a restart just now."""
    state_dir().mkdir(parents=True, exist_ok=True)
    (state_dir() / "litellm-health.json").write_text('{"restarts": ["x', encoding="utf-8")
    engine = Rig(lite, effect=False)
    with relaying(lite.proxy.url) as relay:
        relay.rules.append(Rule("GET /health/", forward=False, status=0, times=10_000))
        lite.client.url = relay.url
        assert run(lite, engine).exit_code == 1
    assert engine.restarts == 0


def test_shutting_down(lite: Lite) -> None:
    """A proxy that is shutting down is not dead."""
    engine = Rig(lite)
    with relaying(lite.proxy.url) as relay:
        body = b'{"status": "shutting_down"}'
        relay.rules.append(Rule("GET /health/readiness", forward=False, status=503, body=body, times=10_000))
        lite.client.url = relay.url
        assert run(lite, engine).finding.state == "shutting down"
    assert engine.restarts == 0


def chat(lite: Lite, model: str) -> str:
    """Ask a model something, and return the text of the answer."""
    answer = requests.post(
        f"{lite.proxy.url}/v1/chat/completions",
        json={"model": model, "messages": [{"role": "user", "content": "hi"}]},
        headers={"Authorization": f"Bearer {lite.proxy.master_key}"},
        timeout=60,
    )
    return answer.text


def test_cooldown(lite: Lite) -> None:
    """A real 429 of two copies is explained with deployments, seconds and remedy, and restarts nothing."""
    for _ in range(2):
        lite.post("/model/new", script_row("gpt", lite.proxy.upstream.url))
    lite.proxy.upstream.status = 429
    try:
        said = next(text for _ in range(6) if "No deployments" in (text := chat(lite, "gpt")))
    finally:
        lite.proxy.upstream.status = 200
    advice = inv("litellm.doctor", "gpt", "--error", said)
    assert advice.code == 1
    assert "gpt: LiteLLM leaves out 2 deployments (openai/gpt-5: " in advice.err
    assert "inv litellm.dedup" in advice.err
    engine = Rig(lite)
    report = run(lite, engine, dedup=False)
    assert [each.what.startswith("gpt: LiteLLM leaves out 2 deployments") for each in report.advice] == [True]
    assert (engine.restarts, report.exit_code) == (0, 0)


def test_doctor_explains(lite: Lite) -> None:
    """LiteLLM's own words about a missing credential, Copilot's login and an unknown model lead to the remedy."""
    lite.post(
        "/model/new",
        {"model_name": "bare", "litellm_params": {"model": "openai/x", "litellm_credential_name": "no"}},
    )
    lite.post("/model/new", {"model_name": "cop", "litellm_params": {"model": "github_copilot/gpt-5"}})
    for model, remedy in (
        ("bare", "litellm.init"),
        ("cop", "litellm.login copilot"),
        ("nope", "litellm.add"),
    ):
        assert remedy in inv("litellm.doctor", model, "--error", chat(lite, model)).err
    assert "the credential 'no', which does not exist" in inv("litellm.doctor", "bare").err


def test_doctor_finds_nothing(lite: Lite) -> None:
    """A model that is in order is said to be."""
    models_file(
        lite.folder, lite.proxy.upstream.url, "{name: mini, model: openai/m, credential: Open AI/Key 1}"
    )
    inv("litellm.init")
    found = inv("litellm.doctor", "mini")
    assert (found.code, "nothing is wrong with mini" in found.err) == (0, True)


def test_doctor_names_the_overriding_row(lite: Lite) -> None:
    """A row of LiteLLM_Config that overrides the environment is named with its table."""
    lite.proxy.psql(
        'insert into "LiteLLM_Config" (param_name, param_value)'
        """ values ('general_settings', '{"store_model_in_db": false}')"""
    )
    assert "the table LiteLLM_Config sets store_model_in_db" in inv("litellm.doctor", "x").err


def test_a_block_survives_a_new_master_key(lite: Lite) -> None:
    """A blocked model stays blocked when the master key changes, and the database stays readable."""
    models_file(
        lite.folder, lite.proxy.upstream.url, "{name: mini, model: openai/m, credential: Open AI/Key 1}"
    )
    inv("litellm.init")
    (row,) = [row for row in lite.client.rows() if row.from_db]
    lite.client.update_model(row.id, {"blocked": True})
    old = lite.proxy.master_key
    try:
        lite.proxy.master_key = "sk-new-master-0123456789"
        lite.proxy.restart()
        set_variable(lite.folder, "LITELLM_MASTER_KEY", "sk-new-master-0123456789")
        assert "nothing to do" in inv("litellm.init").err
        found = {each["name"]: each["blocked"] for each in inv("litellm.models", "--json").data}
        assert found["mini"] is True
    finally:
        lite.proxy.master_key = old
        lite.proxy.restart()
