"""compose.yaml with a real LiteLLM in real containers, by the commands that a user types.

The image can't be pulled here. Its place take this computer's /usr and the virtual environment of tools/litellm.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import requests
from dotenv import dotenv_values

from swarm.deadline import Deadline
from swarm.litellm import install
from swarm.litellm.client import Client
from swarm.paths import ROOT
from tests.docker.conftest import DATABASE, PLANTED, PROGRAMS, USERS, Project, make_project
from tests.litellm.support import models_file, script_row
from tools.litellm.github import CODE, TOKEN, GitHub
from tools.litellm.parts import HERE, Parts, parts
from tools.litellm.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.docker import Engine

pytestmark = pytest.mark.slow

LIMIT = 60.0  # seconds that a loaded machine may take
GATEWAY = "203.0.113.1"  # of a network that is reserved for documentation, so that nothing else here uses it
MODELS = [
    f"{{name: {name}, model: openai/gpt-5-{name}, credential: Open AI/Key 1}}" for name in ("mini", "nano")
]
# LiteLLM's own migration needs Prisma's native engine, which is downloaded from a server that tests do not reach.
MIGRATE = """
psql -qAt "$$DATABASE_URL" -c "select 1 from pg_class where relname = 'LiteLLM_ProxyModelTable'" | grep -q 1 ||
    exec psql -q1 -v ON_ERROR_STOP=1 "$$DATABASE_URL" -f SCHEMA
"""


class Real(Project):
    """The project with a real LiteLLM, whose provider is `upstream`."""

    upstream: Upstream
    github: GitHub

    def client(self) -> Client:
        """Return a client with the master key."""
        values = dotenv_values(self.env)
        return Client(f"http://127.0.0.1:{values['LITELLM_PORT']}", str(values["LITELLM_MASTER_KEY"]))

    def post(self, path: str, body: dict[str, Any]) -> str:
        """Post something through the published port, and return the answer."""
        given = dotenv_values(self.env)
        headers = {"Authorization": f"Bearer {given['LITELLM_MASTER_KEY']}"}
        url = f"http://127.0.0.1:{given['LITELLM_PORT']}{path}"
        return requests.post(url, json=body, headers=headers, timeout=60).text

    def chat(self, model: str) -> str:
        """Ask a model something, and return the answer."""
        return self.post(
            "/v1/chat/completions", {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        )

    def models(self) -> list[str]:
        """Return the names that `inv litellm.models` shows, sorted."""
        return sorted(each["name"] for each in json.loads(self.inv("litellm.models", "--json").stdout))


def image(engine: Engine, made: Parts) -> None:
    """Import an image that has what LiteLLM's own has: `python` is LiteLLM's, and `litellm` starts."""
    path = f"{made.folder}/bin:{made.venv}/bin:{PROGRAMS}"
    variables = install.environment(made.venv, {}, "", {}) | made.variables | {"PATH": path}
    for name in ("DATABASE_URL", "DISABLE_SCHEMA_UPDATE", "LITELLM_MODE", "STORE_MODEL_IN_DB"):
        del variables[name]  # compose.yaml sets them
    changes = [f"ENV {name}={value}" for name, value in variables.items()]
    files = USERS | {"etc/os-release": Path("/usr/lib/os-release").read_text()}  # Prisma reads it
    engine.host_image("litellm:real", files, (*changes, 'ENTRYPOINT ["litellm"]'))


def override(made: Parts, variables: dict[str, str]) -> str:
    """Return the compose.override.yaml that mounts what the image would have, at its own paths."""
    mounts = json.dumps([f"{path}:{path}:ro" for path in ("/usr", made.venv, made.folder, HERE)])
    script = MIGRATE.replace("SCHEMA", str(made.folder / "schema.sql"))
    return f"""
services:
  litellm: {{volumes: {mounts}, healthcheck: {{interval: 2s}}, environment: {json.dumps(variables)}}}
{DATABASE}
  litellm-migrate: {{volumes: {mounts}, entrypoint: {json.dumps(["sh", "-c", script])}}}
  litellm-init: {{volumes: {mounts}}}
networks:
  default: {{ipam: {{config: [{{subnet: 203.0.113.0/24, gateway: {GATEWAY}}}]}}}}
"""


@pytest.fixture(scope="package")
def made() -> Parts:
    """What LiteLLM is made of, downloaded before a module enters the namespace of the engine, which has no resolver."""
    return parts()


@pytest.fixture(scope="module")
def shared(engine: Engine, base: Path, made: Parts) -> Iterator[Real]:
    """A running LiteLLM, whose models litellm-init has registered."""
    image(engine, made)
    github = GitHub(GATEWAY)
    plain = make_project(base / "real", engine, "litellm:real", override(made, github.variables))
    project = Real(plain.folder, plain.environment, engine)
    project.github, project.upstream = github, Upstream(GATEWAY)
    shutil.copytree(ROOT / "swarm", project.folder / "swarm", ignore=shutil.ignore_patterns("__pycache__"))
    models_file(project.folder / "litellm", project.upstream.url, *MODELS)
    try:
        project.up()
        yield project
    finally:
        project.clear()
        project.upstream.close()
        github.close()


@pytest.fixture
def real(shared: Real) -> Real:
    """The running LiteLLM, ready."""
    shared.upstream.reset()
    shared.up()
    return shared


def test_first_start_registers_the_models(real: Real) -> None:
    """The first `up` ends when litellm-init has registered models.yaml, and `init` then has nothing to do."""
    assert real.models() == ["mini", "nano"]
    assert real.inv("litellm.status").returncode == 0
    assert "nothing to do" in real.inv("litellm.init").stderr
    assert real.up().stderr == "nothing to do\n"


def test_the_proxy_lacks_the_providers_key(real: Real) -> None:
    """A chat through the published port reaches the provider with the key of .env, which the proxy does not get."""
    assert '"content":"hi"' in real.chat("mini")
    assert [each.key for each in real.upstream.requests] == [PLANTED]
    assert PLANTED not in real.inspect("litellm", "json .")
    assert PLANTED in real.inspect("litellm-init", "json .Config.Env")


def test_health_restarts_a_stopped_container(real: Real) -> None:
    """`health` restarts a container that was stopped, through Compose, and ends when LiteLLM is healthy."""
    real.engine.docker("stop", "--time=5", real.id("litellm"))
    done = real.inv("litellm.health", "--grace", "1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["state"], found["restarted"]) == ("healthy", True)
    assert real.inv("litellm.status").returncode == 0
    assert json.loads(real.inv("litellm.health", "--json").stdout)["restarted"] is False


def test_health_leaves_a_lost_database_alone(real: Real) -> None:
    """While the database is stopped, `health` restarts nothing, says why, and fails."""
    started = real.inspect("litellm", ".State.StartedAt")
    real.engine.docker("stop", real.id("litellm-db"))
    deadline = Deadline(LIMIT)
    with real.client() as client:
        while client.health("readiness").status == 200:
            assert deadline.pause(0.2)
    done = real.inv("litellm.health", "--grace", "1")
    assert done.returncode == 1
    assert "PostgreSQL does not answer, so a restart of LiteLLM would not help" in done.stderr
    assert real.inspect("litellm", ".State.StartedAt") == started
    real.up()
    assert real.inspect("litellm", ".State.StartedAt") == started
    assert real.models() == ["mini", "nano"]


def test_health_finds_a_cooldown_in_the_log(real: Real) -> None:
    """`health` finds a real cooldown of two copies in the container's log, and names them, as their keys may differ."""
    for _ in range(2):
        real.post("/model/new", script_row("gpt", real.upstream.url))
    real.upstream.status = 429
    said = next(text for _ in range(6) if "No deployments" in (text := real.chat("gpt")))
    assert "cooldown_list" in said
    real.environment["DEDUP"] = "0"
    try:
        done = real.inv("litellm.health", "--json")
    finally:
        del real.environment["DEDUP"]
    found = json.loads(done.stdout)
    assert (done.returncode, found["restarted"], found["deleted"], found["notes"]) == (0, False, 0, [])
    assert [
        "gpt: LiteLLM leaves out 2 deployments (openai/gpt-5: " in each["what"] for each in found["cooldowns"]
    ]
    found = json.loads(real.inv("litellm.health", "--json").stdout)
    assert (found["deleted"], len(found["notes"])) == (0, 1)
    assert "kept 1 possible copy of gpt" in found["notes"][0]
    assert real.inv("litellm.remove", "gpt", "--yes").returncode == 0


def test_the_sentinel_stops_init(real: Real) -> None:
    """With a model gpt-4o in the database litellm-init does nothing, unless FORCE=1."""
    sentinel = str(uuid4())
    with real.client() as client:
        (row,) = [row for row in client.rows() if row.name == "nano"]
        client.add_model("gpt-4o", {"model": "openai/gpt-4o"}, {"id": sentinel})
        client.delete_model(row.id)
        again = real.engine.try_docker("start", "--attach", real.id("litellm-init"))
        assert (again.returncode, "gpt-4o is registered already" in again.stderr.decode()) == (0, True)
        assert real.models() == ["gpt-4o", "mini"]
        real.set("FORCE", "1")
        try:
            real.up()
        finally:
            real.set("FORCE")
        assert real.models() == ["gpt-4o", "mini", "nano"]
        client.delete_model(sentinel)


def test_down_and_a_crash_keep_the_models(real: Real) -> None:
    """If LiteLLM can't read config.yaml, `up` shows the end of its log. Once corrected, the models are as before."""
    with real.client() as client:
        before = {row.id for row in client.rows()}
    path = real.folder / "litellm" / "config.yaml"
    text = path.read_text()
    assert real.inv("litellm.down").returncode == 0
    path.write_text("model_list: [\n")
    try:
        done = real.inv("litellm.up")
    finally:
        path.write_text(text)
    assert done.returncode == 1
    assert "error: litellm crashes" in done.stderr
    assert "yaml" in done.stderr
    real.up()
    with real.client() as client:
        assert {row.id for row in client.rows()} == before
    assert '"content":"hi"' in real.chat("nano")
    assert [each.key for each in real.upstream.requests] == [PLANTED]


def test_login_to_github_copilot(real: Real) -> None:
    """The login shows GitHub's code and keeps the token where only LiteLLM can read it; a second one does nothing."""
    done = real.inv("litellm.login", "copilot")
    assert done.returncode == 0, done.stderr + done.stdout
    assert f"https://github.com/login/device and enter code {CODE}" in done.stdout
    assert TOKEN not in done.stdout + done.stderr
    place = "/var/lib/litellm/copilot"
    words = (
        "exec",
        real.id("litellm"),
        "sh",
        "-c",
        f"stat -c %a {place} {place}/access-token; cat {place}/access-token",
    )
    assert real.engine.docker(*words).split() == ["700", "600", TOKEN]
    assert "nothing to do" in real.inv("litellm.login", "copilot").stdout
    assert real.github.logins == 1
