"""When LiteLLM is restarted, and what its errors mean."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from swarm.console import Talk, screen
from swarm.litellm.apply import exclusive
from swarm.litellm.client import Client, Credential, Health
from swarm.litellm.explain import about_error, about_model, about_overrides, cooldowns, errors_of
from swarm.litellm.health import History, Sample, judge, look, may_restart, parse_times, window
from swarm.litellm.maintenance import Settings, run
from swarm.litellm.runner import Foreign
from swarm.litellm.start import answered
from swarm.paths import ROOT, state_dir
from tests.unit.litellm_rows import row

if TYPE_CHECKING:
    from collections.abc import Collection

    from swarm.litellm.client import Row

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
COOLDOWN = (
    "No deployments available for selected model, Try again in 5 seconds. All deployments for selected model are in "
    "cooldown. Passed model=gpt. pre-call-checks=False, cooldown_list=['a', 'b']"
)


@pytest.mark.parametrize(
    ("sample", "database", "state", "restart"),
    [
        (Sample(alive=True, ready=True, database="connected"), None, "healthy", False),
        (Sample(alive=False, ready=False, error="nothing listens"), True, "dead", True),
        (Sample(alive=False, ready=False, error="nothing listens"), None, "dead", True),
        (Sample(alive=False, ready=False, error="nothing listens"), False, "database down", False),
        (Sample(alive=True, ready=False, database="disconnected"), True, "not ready", True),
        (Sample(alive=True, ready=False, database="disconnected"), False, "database down", False),
        (Sample(alive=True, ready=False, database="disconnected"), None, "unknown", False),
        (Sample(alive=True, ready=False, database="stalled"), True, "not ready", True),
        (Sample(alive=True, ready=False, database="stalled"), False, "database down", False),
        (Sample(alive=True, ready=False, database="Not connected"), True, "not ready", True),
        (Sample(alive=True, ready=False, shutting_down=True), True, "shutting down", False),
    ],
)
def test_what_is_restarted(sample: Sample, database: object, state: str, *, restart: bool) -> None:
    """Only a process that is dead, or that has lost a database which answers, is restarted."""
    assert database is None or isinstance(database, bool)
    finding = judge(sample, database)
    assert (finding.state, finding.restart) == (state, restart)


def test_one_restart_in_a_window() -> None:
    """A restart that did not help is not repeated before its window has passed."""
    history = History((NOW,))
    assert may_restart(History(), NOW) is None
    assert may_restart(history, NOW + timedelta(minutes=59)) == timedelta(minutes=1)
    assert may_restart(history, NOW + timedelta(minutes=60)) is None


def test_windows_grow() -> None:
    """The window doubles with each restart that did not help, up to a day."""
    assert [window(number) for number in (1, 2, 3, 6, 1000)] == [
        timedelta(hours=hours) for hours in (1, 2, 4, 24, 24)
    ]


def test_times_without_a_zone() -> None:
    """Times of a history are sorted, and read as UTC where they name no zone."""
    assert parse_times(["2026-11-25T13:00:00", "2026-11-25T12:00:00+00:00"]) == (
        NOW,
        NOW + timedelta(hours=1),
    )


class Page(BaseHTTPRequestHandler):
    """Answers as a web server in front of LiteLLM: with a page, and the status that the path names."""

    def do_GET(self) -> None:
        """Send the page."""
        body = b"<html><h1>Bad Gateway</h1></html>"
        self.send_response(int(self.path.split("/")[1]))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write nothing."""


def test_a_page_keeps_its_status() -> None:
    """A page with an error is told by its status, not taken for a broken connection; a page with 200 is no LiteLLM."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            with Client(f"{url}/502", "sk-unused") as bad, Client(f"{url}/200", "sk-unused") as other:
                found = [answered(each.health("liveliness")) for each in (bad, other)]
                assert look(bad, 0).error == "liveliness answered 502"
        finally:
            server.shutdown()
    assert found == ["LiteLLM answered 502", f"health: {url}/200 does not answer as LiteLLM does"]


@pytest.mark.usefixtures("dirs")
def test_a_proxy_that_swarm_does_not_run() -> None:
    """A dead proxy that swarm can't restart is an alarm in each run, and none speaks of a restart that never was."""
    client, settings = Client("http://127.0.0.1:1", "sk-unused"), Settings(grace=0)
    reports = [run(client, Foreign(), settings, Talk(screen(), quiet=True)) for _ in range(2)]
    assert [(each.finding.state, each.exit_code, each.restarted) for each in reports] == [
        ("dead", 1, False)
    ] * 2
    assert all(str(each.alarm).endswith(", and swarm does not run it") for each in reports)


class Tried:
    """A runner whose restarts do not help. It counts them."""

    name = "a test"
    restarts = 0

    def restart(self) -> None:
        """Count it."""
        self.restarts += 1

    def database_answers(self) -> bool:
        """Return that it does."""
        return True

    def recent(self, minutes: int) -> str:  # noqa: ARG002 - as above
        """Return nothing."""
        return ""


@pytest.mark.usefixtures("dirs")
def test_a_restart_of_the_future_blocks_others_for_an_hour() -> None:
    """A restart that a wrong clock has dated in a year counts as one of now, and the next run leaves it there."""
    path, settings = state_dir() / "litellm-health.json", Settings(grace=0, start=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"restarts": [(datetime.now(UTC) + timedelta(days=365)).isoformat()]}))
    client, runner = Client("http://127.0.0.1:1", "sk-unused"), Tried()
    report = run(client, runner, settings, Talk(screen(), quiet=True))
    assert "the next is due in 60 min" in str(report.alarm)
    kept = path.read_text()
    run(client, runner, settings, Talk(screen(), quiet=True))
    assert (runner.restarts, path.read_text()) == (0, kept)


class Proxy(Client):
    """A healthy proxy with these rows."""

    def __init__(self, *rows: Row) -> None:
        super().__init__("http://127.0.0.1:1", "sk-unused")
        self.kept = {each.id: each for each in rows}

    def health(self, which: str, limit: float = 1) -> Health:  # noqa: ARG002 - the real one's parameters
        """Return that it is healthy."""
        return Health(200, {"db": "connected"})

    def rows(self, keys: Collection[str] = ()) -> list[Row]:  # noqa: ARG002 - as above
        """Return the rows."""
        return list(self.kept.values())

    def exists(self, row_id: str) -> bool:
        """Return whether the row is there."""
        return row_id in self.kept

    def masks(self, row_id: str) -> dict[str, Any]:  # noqa: ARG002 - as above
        """Return no secrets."""
        return {}

    def delete_model(self, row_id: str) -> bool:
        """Delete a row."""
        return self.kept.pop(row_id, None) is not None


class Logging(Foreign):
    """A runner whose log has a cooldown."""

    def recent(self, minutes: int) -> str:  # noqa: ARG002 - as above
        """Return the log."""
        return COOLDOWN


@pytest.mark.usefixtures("dirs")
def test_advice_after_copies_have_gone() -> None:
    """A cooldown of copies that this run has removed is not answered with the advice to remove them."""
    report = run(Proxy(row(row_id="a"), row(row_id="b")), Logging(), Settings(), Talk(screen(), quiet=True))
    assert report.deleted == 1
    assert ["litellm.dedup" in each.remedy for each in report.advice] == [False]


@pytest.mark.usefixtures("dirs")
def test_a_forgotten_question_holds_no_health_run_up() -> None:
    """While another command holds the models, as one that waits for an answer, a health run only removes no copies."""
    proxy, talk = Proxy(row(row_id="a"), row(row_id="b")), Talk(screen(), quiet=True)
    with ThreadPoolExecutor(1) as pool, exclusive(talk):
        running = pool.submit(run, proxy, Logging(), Settings(patience=0.1), talk)
        report = running.result(10)
    assert (report.exit_code, report.deleted, len(report.advice)) == (0, 0, 1)
    assert "another command is changing" in report.notes[0]


# ── explanations ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_cooldown_names_deployments_and_seconds() -> None:
    """A 429 of LiteLLM is explained with its deployments and seconds."""
    advice = about_error(COOLDOWN, [row(row_id="a", rpm=1), row(row_id="b")])
    assert "2 deployments (openai/gpt-5: a, b) for 5 s" in advice.what
    assert "restart does not help" in advice.remedy


def test_cooldown_of_copies() -> None:
    """If the blocked deployments are copies, dedup is the remedy."""
    assert "inv litellm.dedup" in about_error(COOLDOWN, [row(row_id="a"), row(row_id="b")]).remedy


def test_newest_cooldown_of_each_model() -> None:
    """Of several messages about a model the newest counts."""
    later = COOLDOWN.replace("in 5 seconds", "in 30 seconds")
    other = COOLDOWN.replace("model=gpt", "model=glm-4.5")
    found = cooldowns(f"x {COOLDOWN}\ny {later}\n{other}")
    assert [(each.model, each.seconds) for each in found] == [("gpt", 30), ("glm-4.5", 5)]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("GitHub Copilot device-code login needs a human and cannot run inside", "litellm.login copilot"),
        ("OpenAIException - Missing credentials. Please pass an `api_key`", "litellm.init"),
        ("Invalid model name passed in model=x. Call `/v1/models`", "litellm.add"),
        ("AnthropicException - Your credit balance is too low to access the API", "add credit"),
        ("ZaiException - Insufficient balance or no resource package", "add credit"),
        ("The model is not available in your subscription", "check the plan"),
        ("Incorrect API key provided: os.environ/OPENAI_API_KEY", "key_env"),
        ("litellm.AuthenticationError: AnthropicException - invalid x-api-key", "correct the key"),
        ("litellm.RateLimitError: slow down", "raise the limit"),
        ("no_db_connection", "litellm.status"),
        ("litellm.NotFoundError: model_not_found", "provider's list"),
        ("litellm.APIConnectionError", "api_base"),
        ("\x1b[31mboom", "litellm.logs"),
    ],
)
def test_every_error_has_a_remedy(text: str, part: str) -> None:
    """Each failure that people report gets its own remedy, and no control character passes."""
    advice = about_error(text, [])
    assert part in advice.remedy
    assert "\x1b" not in advice.what


def test_model_problems() -> None:
    """A missing credential, an empty one, a block and an unknown name are found without a call of the model."""
    rows = [row(litellm_credential_name="nope"), row(name="empty", litellm_credential_name="bare")]
    credentials = [Credential("bare", {"api_key": "os.environ/KEY"}, {})]
    assert "'nope', which does not exist" in about_model("gpt", rows, credentials)[0].what
    assert "holds no key" in about_model("empty", rows, credentials)[0].what
    assert "did you mean gpt?" in about_model("gtp", rows, credentials)[0].remedy
    assert not about_model("gpt", [row()], [])


def test_hints_give_doctor_its_model() -> None:
    """`litellm.doctor` is refused without a model, so no hint names it without one."""
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "swarm").rglob("*.py"))
    found = re.findall(r"\./inv litellm\.doctor (\S+)", source)
    assert found
    assert not [word for word in found if word != "MODEL" and word[0] != "{"]


def test_overrides() -> None:
    """A setting that a row of LiteLLM_Config overrides is named; an answer of another shape is no problem."""
    settings = [
        {"field_name": "store_model_in_db", "stored_in_db": True},
        {"field_name": "x", "stored_in_db": False},
    ]
    assert "LiteLLM_Config sets store_model_in_db, which" in about_overrides(settings)[0].what
    assert not about_overrides({"error": 1})
    assert not about_overrides([1, None])


def test_errors_in_a_log() -> None:
    """The newest error lines that name the model are found, each once."""
    log = "INFO gpt\nERROR gpt a\nERROR other\nERROR gpt a\nERROR gpt b\n"
    assert errors_of("gpt", log) == ["ERROR gpt b", "ERROR gpt a"]


def test_errors_of_different_meaning() -> None:
    """Variants of one error, which differ in time, id or seconds, hide no other error: the newest of each is found."""
    waits = [COOLDOWN.replace("in 5 seconds", f"in {number} seconds") for number in range(4)]
    limits = [f"12:00:0{number} gpt litellm.RateLimitError: request {number}f3a" for number in range(4)]
    others = [f"12:00:0{number} Error in gpt: boom {number}" for number in range(4)]
    log = "\n".join(["gpt litellm.AuthenticationError", *waits, *others])
    assert errors_of("gpt", log) == [others[-1], waits[-1], "gpt litellm.AuthenticationError"]
    assert errors_of("gpt", "\n".join(["Error gpt no_db_connection", *limits])) == [
        limits[-1],
        "Error gpt no_db_connection",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "litellm.RateLimitError: glm-flash: slow down",
        "Error for my-glm",
        "Error in zai/glm-5.3: no credit",
        "Error, tried glm.5 and glm:free",
    ],
)
def test_errors_of_another_model(line: str) -> None:
    """An error of a model whose name begins or ends with this one's is not taken for an error of this one."""
    assert not errors_of("glm", line)


@pytest.mark.parametrize(
    "line",
    [
        COOLDOWN.replace("model=gpt", "model=glm"),
        "Error. Received Model Group=glm\\nAvailable",
        "Error: glm",
        "Error in zai/glm",
    ],
)
def test_errors_of_this_model(line: str) -> None:
    """A model's name is found wherever LiteLLM writes it: in a cooldown, as a group, and behind its provider."""
    assert errors_of("glm", f"{line}\n") == [line]
