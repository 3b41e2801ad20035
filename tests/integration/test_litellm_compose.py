"""litellm/compose.yaml as Docker Compose reads it, which needs no engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from swarm.litellm import environment
from swarm.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

REQUIRED = {"LITELLM_MASTER_KEY": "sk-m", "LITELLM_SALT_KEY": "sk-s", "LITELLM_DB_PASSWORD": "pw"}
SERVICES = {"litellm", "litellm-db", "litellm-migrate", "litellm-init"}


def _programs() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [("docker-compose",)] if shutil.which("docker-compose") else []
    if (
        shutil.which("docker")
        and subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    ):
        found.append(("docker", "compose"))
    return found


@pytest.fixture(params=_programs() or [()], ids=" ".join)
def compose(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Each Docker Compose of this computer."""
    if not request.param:
        pytest.skip("neither docker-compose nor docker compose is installed")
    program: tuple[str, ...] = request.param
    return program


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of litellm/ with a .env that has exactly the required variables."""
    made = tmp_path / "litellm"
    made.mkdir()
    for name in ("compose.yaml", "config.yaml"):
        shutil.copy2(ROOT / "litellm" / name, made)
    _write(made, REQUIRED)
    return made


def _write(folder: Path, values: dict[str, str]) -> None:
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))


def _run(compose: tuple[str, ...], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LITELLM", "COMPOSE"))}
    return subprocess.run(
        [*compose, *words], cwd=folder, env=kept, capture_output=True, text=True, check=False
    )


def _config(compose: tuple[str, ...], folder: Path) -> dict[str, Any]:
    done = _run(compose, folder, "--profile", "api", "config")
    assert done.returncode == 0, done.stderr
    data: dict[str, Any] = YAML(typ="safe").load(done.stdout)
    services: dict[str, Any] = data["services"]
    return services


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_variable_is_named(compose: tuple[str, ...], folder: Path, name: str) -> None:
    """Without a required variable, or with an empty one, Compose refuses and says how to make it."""
    for values in ({**REQUIRED, name: ""}, {key: value for key, value in REQUIRED.items() if key != name}):
        _write(folder, values)
        done = _run(compose, folder, "--profile", "api", "config", "--quiet")
        assert done.returncode != 0
        assert name in done.stderr
        assert "./inv litellm.up" in done.stderr


def test_every_service_belongs_to_the_profile(compose: tuple[str, ...], folder: Path) -> None:
    """A plain `up` in the folder starts nothing: every service has the profile api."""
    services = _config(compose, folder)
    assert set(services) == SERVICES
    assert all(service["profiles"] == ["api"] for service in services.values())


def test_only_the_proxy_is_published_and_on_loopback(compose: tuple[str, ...], folder: Path) -> None:
    """The proxy answers at 127.0.0.1:18804 unless LITELLM_BIND and LITELLM_PORT say otherwise."""
    services = _config(compose, folder)
    assert [name for name, service in services.items() if service.get("ports")] == ["litellm"]
    assert _published(services) == ("127.0.0.1", "18804", "4000")
    _write(folder, {**REQUIRED, "LITELLM_BIND": "192.0.2.1", "LITELLM_PORT": "999"})
    assert _published(_config(compose, folder)) == ("192.0.2.1", "999", "4000")


def _published(services: dict[str, Any]) -> tuple[str, ...]:
    (port,) = services["litellm"]["ports"]
    if isinstance(port, str):
        return tuple(port.removesuffix("/tcp").split(":"))
    return port["host_ip"], str(port["published"]), str(port["target"])


def test_services_restart_and_jobs_do_not(compose: tuple[str, ...], folder: Path) -> None:
    """The proxy and the database come back after a crash and have a health check; the jobs run once."""
    services = _config(compose, folder)
    policies = {name: service["restart"] for name, service in services.items()}
    assert policies == {
        "litellm": "unless-stopped", "litellm-db": "unless-stopped", "litellm-migrate": "no", "litellm-init": "no",
    }  # fmt: skip
    assert "pg_isready" in services["litellm-db"]["healthcheck"]["test"]
    assert "/health/liveliness" in services["litellm"]["healthcheck"]["test"][-1]


def test_services_start_in_order(compose: tuple[str, ...], folder: Path) -> None:
    """The schema is migrated before the proxy starts, and the models are registered when it is healthy."""
    conditions = {
        (name, other): value["condition"]
        for name, service in _config(compose, folder).items()
        for other, value in (service.get("depends_on") or {}).items()
    }
    assert conditions == {
        ("litellm", "litellm-db"): "service_healthy",
        ("litellm", "litellm-migrate"): "service_completed_successfully",
        ("litellm-migrate", "litellm-db"): "service_healthy",
        ("litellm-init", "litellm"): "service_healthy",
    }


def test_only_init_gets_providers_keys(compose: tuple[str, ...], folder: Path) -> None:
    """A provider's key in .env reaches litellm-init and no other container."""
    _write(folder, {**REQUIRED, "OPENAI_API_KEY": "sk-planted"})
    services = _config(compose, folder)
    assert [name for name, service in services.items() if "sk-planted" in str(service)] == ["litellm-init"]


def test_swarm_knows_which_values_compose_changes(
    compose: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The values of .env that swarm calls expanded are those that reach the containers changed."""
    values = ["a$bc", "a${b}c", "'a$bc'", "'a${b}c'", '"a$bc"', '"a${b:-d}c"', "a$$b", "'a$$b'", "ab"]
    values += ["a # b", "a#b", "#a", "'a b' # c", r"'a\'b'", r'"a\t\\\"b"	# c', r"'a\tb'"]
    given = {f"KEY_{number}": value for number, value in enumerate(values)}
    _write(folder, {**REQUIRED, **given})
    monkeypatch.setenv("SWARM_LITELLM", str(folder))
    got = _config(compose, folder)["litellm-init"]["environment"]
    version = _run(compose, folder, "version", "--short").stdout.strip().lstrip("v")
    read = environment.read().values
    changed = {name for name in given if got[name].replace("$$", "$") != read[name]}
    assert changed == environment.expanded(old=version.startswith("1.")).keys()


def test_the_files_hold_no_secret_and_pinned_images() -> None:
    """No file in git has a value for a secret, and every default image has a version."""
    text = (ROOT / "litellm" / "compose.yaml").read_text()
    example = (ROOT / "litellm" / ".env.example").read_text()
    assert not re.search(r"sk-[0-9a-zA-Z]", text + example + (ROOT / "litellm" / "config.yaml").read_text())
    assert all(not value for value in re.findall(r"^#? ?\w+_(?:KEY|PASSWORD)=(.*)$", example, re.MULTILINE))
    images = re.findall(r"image: \$\{\w+:-([^}]+)\}", text)
    assert len(images) == text.count("image: ")
    assert all(re.search(r":v?\d[\d.]*$", image) for image in images)


def test_git_ignores_the_secrets() -> None:
    """Git never adds litellm/.env or what `backup.key` makes here, and keeps .env.example."""
    ignored = subprocess.run(
        ["git", "check-ignore", "litellm/.env", "litellm/.env.example", "swarm-backup.key"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ignored.returncode not in {0, 1}:
        pytest.skip("this is no git repository")
    assert ignored.stdout.split() == ["litellm/.env", "swarm-backup.key"]
