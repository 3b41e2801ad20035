"""LiteLLM's containers on a real engine, by the commands that a user types."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.docker.conftest import Project

pytestmark = pytest.mark.slow

LIMIT = 90.0  # seconds that a loaded machine may take


def test_first_start_makes_secrets_and_waits(fresh: Project) -> None:
    """The first `up` makes .env for its owner alone, and ends when the proxy is ready and the models are registered."""
    done = fresh.up("--json")
    assert json.loads(done.stdout) == {"changed": True, "mode": "docker"}
    text = fresh.env.read_text()
    keys = re.findall(r"^LITELLM_(?:MASTER|SALT)_KEY=(sk-[0-9a-f]{64})$", text, re.MULTILINE)
    assert len(set(keys)) == 2
    assert stat.S_IMODE(fresh.env.stat().st_mode) == 0o600
    status = fresh.inv("litellm.status", "--json")
    found = json.loads(status.stdout)["docker"]
    assert (status.returncode, found["ready"], found["alive"]) == (0, True, True)
    assert {each["service"]: each["state"] for each in found["containers"]} == {
        "litellm": "running", "litellm-db": "running", "litellm-migrate": "exited", "litellm-init": "exited",
    }  # fmt: skip
    assert "registered the models" in fresh.inv("litellm.logs").stdout


def test_second_start_does_nothing(project: Project) -> None:
    """A second `up` restarts no container, not even the jobs, and says so."""
    project.up()
    services = ("litellm", "litellm-db", "litellm-migrate", "litellm-init")
    before = [project.inspect(each, ".State.StartedAt") for each in services]
    assert project.up().stderr == "nothing to do\n"
    assert [project.inspect(each, ".State.StartedAt") for each in services] == before


def test_only_init_gets_the_providers_keys(project: Project) -> None:
    """The proxy's container does not hold a provider's key; the one that registers models does."""
    project.up()
    planted = "sk-planted-key-of-a-provider"
    assert planted in project.inspect("litellm-init", "json .Config.Env")
    for service in ("litellm", "litellm-db", "litellm-migrate"):
        assert planted not in project.inspect(service, "json .")


def test_it_listens_on_loopback_only(project: Project) -> None:
    """The proxy's port is published at 127.0.0.1, and the database's at no address."""
    project.up()
    assert re.findall(r'"HostIp":"([^"]*)"', project.inspect("litellm", "json .HostConfig.PortBindings")) == [
        "127.0.0.1"
    ]
    assert project.inspect("litellm-db", "json .HostConfig.PortBindings") in {"{}", "null"}


def test_a_killed_proxy_comes_back(project: Project) -> None:
    """Docker restarts the proxy when its process dies, and `up` then finds it ready."""
    project.up()
    started = project.inspect("litellm", ".State.StartedAt")
    os.kill(int(project.inspect("litellm", ".State.Pid")), signal.SIGKILL)
    end = time.monotonic() + LIMIT
    while project.inspect("litellm", ".State.StartedAt") == started:
        assert time.monotonic() < end
        time.sleep(0.2)
    project.up()
    assert project.inv("litellm.status").returncode == 0


def test_down_keeps_the_database(project: Project) -> None:
    """After `down` and `up` the rows are still there, and a second `down` has nothing to do."""
    project.up()
    project.sql("create table kept (n int); insert into kept values (42)")
    assert project.inv("litellm.down").returncode == 0
    assert project.inv("litellm.down").stderr == "nothing to do\n"
    project.up()
    assert project.sql("select n from kept") == "42"
    project.sql("drop table kept")


@pytest.mark.parametrize("name", ["", "LITELLM_SALT_KEY", "LITELLM_DB_PASSWORD"])
def test_a_database_without_its_key_is_refused(project: Project, name: str) -> None:
    """With the volume there and .env, its salt key or its password gone, `up` refuses and makes no new key."""
    project.up()
    assert project.inv("litellm.down").returncode == 0
    text = project.env.read_text()
    try:
        if name:
            project.set(name)
        else:
            project.env.unlink()
        before = project.env.read_text() if name else None
        done = project.inv("litellm.up")
        assert done.returncode == 1
        assert (name or "LITELLM_SALT_KEY") in done.stderr
        assert "docker volume rm swarm-litellm_litellm-db" in done.stderr
        assert (project.env.read_text() if project.env.exists() else None) == before
    finally:
        project.env.write_text(text)
    project.up()


def test_a_readable_env_is_closed(project: Project) -> None:
    """`up` takes .env away from other users, and says so."""
    project.up()
    project.env.chmod(0o644)
    assert "readable by other users" in project.up().stderr
    assert stat.S_IMODE(project.env.stat().st_mode) == 0o600


def test_a_new_master_key_reaches_the_proxy(project: Project) -> None:
    """A changed LITELLM_MASTER_KEY in .env makes `up` replace the proxy, whatever the shell's variable says."""
    project.up()
    before = project.id("litellm")
    key = "sk-" + "ab" * 32
    project.set("LITELLM_MASTER_KEY", key)
    project.environment["LITELLM_MASTER_KEY"] = "sk-of-the-shell"
    try:
        project.up()
    finally:
        del project.environment["LITELLM_MASTER_KEY"]
    assert project.id("litellm") != before
    assert key in project.inspect("litellm", "json .Config.Env")


def test_logs_hide_secrets(project: Project) -> None:
    """`logs` shows the proxy's and the database's output, at most the lines asked for, and no secret."""
    project.up()
    key = re.search(r"^LITELLM_MASTER_KEY=(.+)$", project.env.read_text(), re.MULTILINE)
    assert key
    assert key[1] in project.engine.docker("logs", project.id("litellm")) + _stderr(project)
    done = project.inv("litellm.logs", "--lines", "5")
    assert done.returncode == 0
    assert "starting with ***" in done.stdout
    assert "database system is ready" in done.stdout
    assert key[1] not in done.stdout + done.stderr
    assert sum(line.startswith("litellm-db") for line in done.stdout.splitlines()) <= 5


def test_a_failed_registration_is_shown(project: Project) -> None:
    """If litellm-init fails, `up` fails with the end of its log, and the proxy still runs."""
    project.up()
    project.set("OPENAI_API_KEY")
    try:
        done = project.inv("litellm.up")
        assert done.returncode == 1
        assert "litellm-init failed (exit code 1)" in done.stderr
        assert "OPENAI_API_KEY is not set" in done.stderr
        status = project.inv("litellm.status")
        assert status.returncode == 0
        assert "✗ exited (1)" in status.stdout
    finally:
        project.set("OPENAI_API_KEY", "sk-planted-key-of-a-provider")
    project.up()


def test_a_late_database_is_waited_for(fresh: Project) -> None:
    """`up` waits for a database that is ready 60 s late."""
    fresh.environment["LATE"] = "60"
    try:
        fresh.up()
    finally:
        del fresh.environment["LATE"]


def test_the_time_limit_ends_the_wait(fresh: Project) -> None:
    """`up --timeout` ends with what it waits for, and the next run continues."""
    fresh.environment["LATE"] = "600"
    try:
        done = fresh.inv("litellm.up", "--timeout", "8")
    finally:
        del fresh.environment["LATE"]
    assert done.returncode == 1
    assert "not ready after 8 s: litellm-db: running (starting)" in done.stderr
    fresh.up()


def test_ctrl_c_leaves_nothing_broken(fresh: Project) -> None:
    """Ctrl-C during `up` ends it and Compose, and the next run continues."""
    fresh.environment["LATE"] = "600"
    try:
        running = fresh.begin("litellm.up")
        end = time.monotonic() + LIMIT
        while not fresh.id("litellm-db"):
            assert time.monotonic() < end
            time.sleep(0.2)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=LIMIT)
    finally:
        del fresh.environment["LATE"]
    assert running.returncode == 130
    assert "run the same command again to continue" in said
    fresh.up()


def test_it_stops_without_env(project: Project) -> None:
    """`down` works although .env is gone, and keeps the database; `logs` then says what is missing."""
    project.up()
    text = project.env.read_text()
    project.env.unlink()
    try:
        assert "hint: ./inv litellm.up makes it" in project.inv("litellm.logs").stderr
        assert project.inv("litellm.down").returncode == 0
        assert not project.engine.docker("ps", "--all", "--quiet")
        assert not project.engine.docker("network", "ls", "--quiet", "--filter=driver=bridge")
        assert "swarm-litellm_litellm-db" in project.engine.docker("volume", "ls", "--quiet")
        assert "LiteLLM has no containers" in project.inv("litellm.logs").stderr
    finally:
        project.env.write_text(text)


def test_a_taken_port_is_explained(fresh: Project) -> None:
    """If another program has the port, `up` says so and names LITELLM_PORT."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        fresh.env.write_text(f"LITELLM_PORT={taken.getsockname()[1]}\n")
        done = fresh.inv("litellm.up")
    fresh.clear()
    assert done.returncode == 1
    assert "the port of LiteLLM is in use" in done.stderr
    assert "LITELLM_PORT" in done.stderr


def test_a_missing_image_is_explained(fresh: Project) -> None:
    """If an image can't be pulled, `up` says so and names no secret."""
    fresh.environment["LITELLM_IMAGE"] = "127.0.0.1:9/none:1"
    try:
        done = fresh.inv("litellm.up")
    finally:
        fresh.environment["LITELLM_IMAGE"] = "litellm:1"
    assert done.returncode == 1
    assert "an image can't be pulled" in done.stderr
    assert "hint:" in done.stderr


def _stderr(project: Project) -> str:
    return project.engine.try_docker("logs", project.id("litellm")).stderr.decode()
