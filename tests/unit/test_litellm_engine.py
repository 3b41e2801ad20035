"""Docker's errors as sentences, and which Docker is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from swarm.console import Talk, screen
from swarm.errors import CommandFailed, InventoryError, SwarmError, Unfit
from swarm.litellm import compose, engine
from swarm.litellm.running import runner
from swarm.paths import cache_dir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CASES = {
    "Got permission denied while trying to connect to the Docker daemon socket at unix:///run/docker.sock":
        ("may not use Docker", "usermod"),
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?":
        ("not reachable", "--native"),
    "ERROR: Couldn't connect to Docker daemon at http+docker://localhost - is it up?": ("not reachable", "--native"),
    "Bind for 127.0.0.1:18804 failed: port is already allocated": ("port of LiteLLM", "LITELLM_PORT"),
    "listen tcp4 127.0.0.1:18804: bind: address already in use": ("port of LiteLLM", "LITELLM_PORT"),
    "Error response from daemon: manifest unknown": ("does not exist", "LITELLM_IMAGE"),
    "pull access denied for x, repository does not exist": ("does not exist", "LITELLM_IMAGE"),
    'Get "https://example.org/v2/": dial tcp: lookup example.org: no such host': ("can't be pulled", "network"),
    "write /x: no space left on device": ("disk is full", "docker system df"),
    "something else\n": ("failed: something else", "logs"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A litellm/ with a secret, and a PATH with no Docker."""
    (tmp_path / ".env").write_text("LITELLM_MASTER_KEY=sk-planted-key\n")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("SWARM_LITELLM", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def program(folder: Path, name: str, script: str) -> None:
    """Put a program on the PATH."""
    path = folder / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("output", CASES)
def test_an_error_has_a_sentence_and_a_hint(output: str) -> None:
    """Each known error of Docker becomes one sentence with a hint that helps; an unknown one shows its last line."""
    error = engine.failure("start LiteLLM", output)
    sentence, hint = CASES[output]
    assert sentence in error.message
    assert hint in (error.hint or "")
    assert "\n" not in error.message


def test_an_error_hides_secrets(folder: Path) -> None:
    """A secret of .env in Docker's output is masked."""
    assert folder.exists()
    assert "planted" not in str(engine.failure("start", "bad value sk-planted-key here"))


@pytest.mark.parametrize("services", [False, True], ids=["containers", "services"])
def test_the_proxys_log_hides_secrets(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, services: bool
) -> None:
    """A secret of .env in the proxy's log, which health and doctor quote, is masked."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    labels = '{"com.docker.compose.service": "litellm"}'
    state = '{"Status": "running", "ExitCode": 0, "StartedAt": ""}'
    shown = f'[{{"Id": "1", "Config": {{"Image": "i", "Labels": {labels}}}, "State": {state}}}]'
    said = "echo ERROR gpt: sk-planted-key is no key"
    program(
        folder,
        "docker",
        f"case $* in *version*) echo 2;; ps*) echo 1;; inspect*) echo '{shown}';; *) {said};; esac",
    )
    program(folder, "journalctl", said)
    if services:
        wanted = folder / "systemd/user/default.target.wants"
        wanted.mkdir(parents=True)
        (wanted / "litellm.service").symlink_to("../litellm.service")
    found = runner()
    assert found.name == ("systemd" if services else "Docker Compose")
    assert found.recent(10).strip() == "ERROR gpt: *** is no key"


def test_no_docker_is_explained(folder: Path) -> None:
    """Without Docker, or without Compose, the message suggests to install it or to use --native."""
    with pytest.raises(Unfit, match="Docker is not installed") as caught:
        engine.find()
    assert "--native" in str(caught.value)
    program(folder, "docker", "exit 1")
    with pytest.raises(Unfit, match="Compose is not installed"):
        engine.find()
    program(folder, "docker-compose", "echo 1.25.0")
    with pytest.raises(Unfit, match="too old"):
        engine.find()


def test_the_plugin_goes_before_the_old_program(folder: Path) -> None:
    """docker-compose 1.29 is used where there is no plugin, and `docker compose` where there is."""
    program(folder, "docker", "exit 1")
    program(folder, "docker-compose", "echo 1.29.2")
    assert engine.find().compose == ("docker-compose",)
    program(folder, "docker", 'test "$1" = compose && echo v2.40.0')
    assert engine.find() == engine.Engine(("docker", "compose"), "2.40.0")


def test_the_old_programs_version_is_remembered(folder: Path) -> None:
    """docker-compose is asked for its version once, and again after its file has changed or what is kept is damaged."""
    program(folder, "docker", "exit 1")
    program(folder, "docker-compose", "echo asked >>asked; echo 1.29.2")
    asked, kept = folder / "asked", cache_dir() / "docker-compose.json"
    for _ in range(2):
        assert engine.find().version == "1.29.2"
    assert asked.read_text().count("asked") == 1
    for damage in ("", "[]", "[1, 2]", kept.read_text().replace("1.29.2", "")):
        kept.write_text(damage)
        assert engine.find().version == "1.29.2"
    assert asked.read_text().count("asked") == 5
    program(folder, "docker-compose", "echo 1.30")
    assert engine.find().version == "1.30"


def test_the_files_secrets_apply(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose gets no secret and no port from the shell, which would win over .env, and no secret as an argument."""
    program(
        folder,
        "docker",
        'echo "$*; key=$LITELLM_MASTER_KEY; project=$COMPOSE_PROJECT_NAME; port=$LITELLM_PORT; image=$LITELLM_IMAGE"',
    )
    monkeypatch.setenv("LITELLM_MASTER_KEY", "sk-of-the-shell")
    monkeypatch.setenv("LITELLM_PORT", "7")
    monkeypatch.setenv("LITELLM_IMAGE", "mine")
    said = engine.Engine(("docker", "compose"), "2").call("config")
    assert said == "compose --profile api config; key=; project=swarm-litellm; port=; image=mine\n"


def test_containers_that_can_not_be_shown(folder: Path) -> None:
    """If Docker lists containers and then fails to show them, that is an error: there are some."""
    program(
        folder, "docker", 'test "$1" = ps && echo 1 || { echo "Error response: i/o timeout" >&2; exit 1; }'
    )
    with pytest.raises(CommandFailed, match="i/o timeout"):
        engine.Engine(("docker", "compose"), "2").containers()


def test_a_container_that_is_removed_meanwhile(folder: Path) -> None:
    """Containers are listed again if one was removed before Docker could show it; the others are not overlooked."""
    (folder / "ids").write_text("1\n2\n")
    removed = 'echo 2 >ids; echo "Error: No such container: 1" >&2; exit 1'
    shown = f'case $* in *1*) {removed};; *) echo \'[{{"Id": "2"}}]\';; esac'
    program(
        folder,
        "docker",
        f'if test "$1" = ps; then while read -r id; do echo "$id"; done <ids; else {shown}; fi',
    )
    assert engine.Engine(("docker", "compose"), "2").containers() == [{"Id": "2"}]


def test_a_failing_call_raises(folder: Path) -> None:
    """What Docker writes to stderr explains its failure."""
    program(folder, "docker", "echo Cannot connect to the Docker daemon >&2; exit 1")
    with pytest.raises(SwarmError, match="docker volume: the Docker daemon is not reachable"):
        engine.Engine(("docker", "compose"), "2").volume()


@pytest.mark.parametrize("command", ["up", "down", "logs", "state"])
def test_a_file_that_can_not_be_read_is_named_first(folder: Path, command: str) -> None:
    """A bad line of .env is named, before Compose quotes it with its secret, or another project is taken for ours."""
    for name in ("compose.yaml", "config.yaml", "models.yaml"):
        (folder / name).touch()
    (folder / ".env").write_text('COMPOSE_PROJECT_NAME=mine\nLITELLM_MASTER_KEY="sk-planted\n')
    said = """echo 'failed to read .env: line 2: unterminated quoted value "sk-planted' >&2; exit 1"""
    label = "--filter=label=com.docker.compose.project=mine"
    program(
        folder, "docker", f"case $* in *version*) echo 2;; *ps*{label}*) echo 1;; ps*) ;; *) {said};; esac"
    )
    run: dict[str, Callable[[], object]] = {
        "up": lambda: compose.up(Talk(screen(), quiet=True)),
        "down": lambda: compose.down(Talk(screen(), quiet=True)),
        "logs": lambda: compose.logs(follow=False, lines=1),
        "state": compose.state,
    }
    with pytest.raises(InventoryError, match=r"\.env:2: expected NAME=value"):
        run[command]()


def test_a_log_whose_program_does_not_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If Compose does not end after the last line of the log, `litellm.logs` stops it and says so in a sentence."""
    state = '{"Status": "running", "ExitCode": 0, "StartedAt": ""}'
    shown = f'[{{"Id": "1", "Config": {{"Image": "i"}}, "State": {state}}}]'
    hangs = "echo a line; exec /bin/sleep 60 >&- 2>&-"
    program(
        folder,
        "docker",
        f"case $* in *version*) echo 2;; ps*) echo 1;; inspect*) echo '{shown}';; *) {hangs};; esac",
    )
    monkeypatch.setattr(compose, "_ENDING", 0.1)
    with pytest.raises(CommandFailed, match=r"Compose did not end after the last line of the log"):
        compose.logs(follow=False, lines=5)
    assert capsys.readouterr().out == "a line\n"


# What swarm reads otherwise than Compose, by the first number of Compose's version.
DOLLARS = {
    "1": {"sk-a${b}c", "'sk-a${b}c'", '"sk-a${b:-d}c"'},
    "2": {"sk-a${b}c", '"sk-a${b:-d}c"', "sk-a$bc", "sk-a$$b", "sk-a$", '"sk-$bc"'},
}


@pytest.mark.parametrize("version", DOLLARS)
@pytest.mark.parametrize(
    "value", sorted({*DOLLARS["1"], *DOLLARS["2"], "'sk-$bc'", "'sk-a$$b' # $d", "sk-ab"})
)
def test_a_value_that_compose_would_replace(folder: Path, version: str, value: str) -> None:
    """A key whose $ Compose replaces is refused with its line and name, not its value; others do not matter."""
    for name in ("compose.yaml", "config.yaml"):
        (folder / name).touch()
    (folder / "models.yaml").write_text("credentials: [{name: zai, key_env: ZAI_API_KEY}]\n")
    program(
        folder,
        "docker",
        f'case "$*" in *version*) echo {version}.29.2;; volume*) echo litellm-db;; *) echo here >&2; exit 1;; esac',
    )
    kept = f"LITELLM_SALT_KEY={value}\nLITELLM_DB_PASSWORD={value}\nLITELLM_IMAGE={value}\n"
    keys = "COMPOSE_PROJECT_NAME=x\n\nLITELLM_MASTER_KEY={}\n# $\n\nZAI_API_KEY={}\n"
    refused = value in DOLLARS[version]
    for line, name, text in (
        (6, "LITELLM_MASTER_KEY", keys.format(value, "z")),
        (9, "ZAI_API_KEY", keys.format("sk-m", value)),
    ):
        (folder / ".env").write_text(kept + text)
        with pytest.raises(InventoryError if refused else CommandFailed) as caught:
            compose.up(Talk(screen(), quiet=True))
        if refused:
            assert f".env:{line}: Docker Compose would replace the $" in caught.value.message
            assert caught.value.message.endswith(f" in {name}")
            assert "sk-" not in str(caught.value)
            assert ("single quotes" in str(caught.value)) == (version == "2")
        assert (folder / ".env").read_text() == kept + text
