"""What LiteLLM's services are made of: units, variables, and the programs of PostgreSQL."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from swarm import units
from swarm.commands import litellm as commands
from swarm.errors import CommandFailed, Unfit, UsageError
from swarm.litellm import install, native, postgres
from tests.conftest import ROOT

KEY = "sk-planted"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration file in a folder whose name has characters that units give a meaning to."""
    path = tmp_path / "my $HOME 100%" / "config.yaml"
    path.parent.mkdir()
    path.write_text("model_list: []\n", encoding="utf-8")
    return path


def _units(config: Path, **values: str) -> dict[str, str]:
    return native.rendered(
        config.parent, Path("/usr/lib/postgresql/15/bin"), Path("/cache/venv"), config, values
    )


def test_units_hold_no_secret(config: Path) -> None:
    """A unit names the file with the keys, and holds none, since other users may read units."""
    texts = _units(config, LITELLM_MASTER_KEY=KEY, LITELLM_DB_PASSWORD=KEY, OPENAI_API_KEY=KEY)
    assert texts.keys() == {"litellm.service", "litellm-db.service"}
    assert not any(KEY in text for text in texts.values())
    assert "EnvironmentFile=" in texts["litellm.service"]


def test_units_listen_on_loopback_unless_told_otherwise(config: Path) -> None:
    """The proxy and its database listen on loopback. Only the proxy can be given another address."""
    default = _units(config)
    opened = _units(config, LITELLM_BIND="0.0.0.0", LITELLM_PORT="4000")  # noqa: S104 - as a user would
    assert '--host "127.0.0.1" --port 18804' in default["litellm.service"]
    assert '--host "0.0.0.0" --port 4000' in opened["litellm.service"]
    assert '--host "::1"' in _units(config, LITELLM_BIND="[::1]")["litellm.service"]  # as Docker wants it
    assert "listen_addresses=127.0.0.1" in opened["litellm-db.service"]


def test_another_configuration_makes_another_unit(config: Path) -> None:
    """The proxy's unit changes with config.yaml, so that `up` restarts it. The database's unit does not."""
    before = _units(config)
    config.write_text("model_list: []  # more\n", encoding="utf-8")
    after = _units(config)
    assert after["litellm.service"] != before["litellm.service"]
    assert after["litellm-db.service"] == before["litellm-db.service"]


@pytest.mark.parametrize("port", ["0", "65536", "many", "-1", "²"])
def test_a_port_that_is_none_is_refused(config: Path, port: str) -> None:
    """A wrong port is named, instead of a service that fails."""
    with pytest.raises(UsageError, match="LITELLM_PORT"):
        _units(config, LITELLM_PORT=port)


def test_paths_keep_their_special_characters(config: Path) -> None:
    """Systemd expands neither $ nor % of a path."""
    text = _units(config)["litellm.service"]
    assert "my $$HOME 100%%/config.yaml" in text
    assert "WorkingDirectory=" + str(config.parent).replace("%", "%%") in text


def test_the_proxy_downloads_nothing_when_it_starts(tmp_path: Path) -> None:
    """The variables switch off every download and all telemetry, whatever .env says."""
    given = {"LITELLM_LOCAL_MODEL_COST_MAP": "False", "OPENAI_API_KEY": KEY}
    outside = {"HOME": "/home/x", "AWS_SECRET_ACCESS_KEY": KEY}
    found = install.environment(tmp_path, given, "postgresql://x", outside)
    assert found["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"
    assert found["LITELLM_TELEMETRY"] == "False"
    assert found["OPENAI_API_KEY"] == KEY
    assert found["DATABASE_URL"] == "postgresql://x"
    assert found["HOME"] == "/home/x"
    assert "AWS_SECRET_ACCESS_KEY" not in found  # only .env gives keys to the proxy
    assert found["PATH"].startswith(f"{tmp_path}/bin:")


def test_the_lock_pins_every_package_and_names_no_index() -> None:
    """Each package of the lock has a version and hashes. LiteLLM's two malicious releases are not among them."""
    text = (ROOT / "litellm/requirements.lock").read_text(encoding="utf-8")
    entries = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert all("==" in line and line.endswith("\\") for line in entries)
    assert text.count("--hash=sha256:") >= len(entries)
    assert "://" not in text
    assert "litellm==1.109.1 \\" in entries
    for name in ("litellm/prisma", "tools/litellm"):
        packages = json.loads((ROOT / name / "package-lock.json").read_text(encoding="utf-8"))["packages"]
        assert all("integrity" in each and "resolved" not in each for path, each in packages.items() if path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root is refused before that")
def test_a_cluster_keeps_its_release_of_postgresql(tmp_path: Path) -> None:
    """The newest PostgreSQL makes a cluster. An existing one needs the release that made it."""
    for release in ("9", "15", "17"):
        folder = tmp_path / "programs" / release / "bin"
        folder.mkdir(parents=True)
        (folder / "postgres").touch()
    data = tmp_path / "data"
    assert postgres.find(data, tmp_path / "programs").parent.name == "17"
    data.mkdir()
    (data / "PG_VERSION").write_text("15\n", encoding="ascii")
    assert postgres.find(data, tmp_path / "programs").parent.name == "15"
    (data / "PG_VERSION").write_text("16\n", encoding="ascii")
    with pytest.raises(Unfit, match="needs PostgreSQL 16"):
        postgres.find(data, tmp_path / "programs")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused")
def test_root_is_refused(tmp_path: Path) -> None:
    """PostgreSQL does not run as root, so root is told before anything is made."""
    with pytest.raises(Unfit, match="refuses to run as root"):
        postgres.find(tmp_path / "data")


def test_services_that_were_stopped_do_not_run_the_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`down` keeps the units but disables them: only enabled ones count, or `health` would start them beside Docker."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "systemd/user"
    (folder / "default.target.wants").mkdir(parents=True)
    (folder / "litellm.service").touch()
    assert not native.enabled()
    (folder / "default.target.wants/litellm.service").symlink_to("../litellm.service")
    assert native.enabled()


def test_a_journal_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the user may not read the journal, there is no log, and what journalctl says is an error's message."""
    program = tmp_path / "journalctl"
    program.write_text("#!/bin/sh\necho 'No journal files were opened.' >&2\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert native.recent(5, 10) == ""
    with pytest.raises(CommandFailed, match=r"^journalctl failed: No journal files were opened\.$"):
        units.call("journalctl", "--no-pager")


def test_a_log_outlives_an_edit_of_env(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log of the services goes on, without the secrets, while litellm/.env is edited and can't be read."""
    (tmp_path / ".env").write_text(f"LITELLM_MASTER_KEY={KEY}\n", encoding="utf-8")
    (tmp_path / "systemd/user").mkdir(parents=True)
    (tmp_path / "systemd/user/litellm.service").touch()
    (tmp_path / "journalctl").write_text(
        f'#!/bin/sh\necho one {KEY}\necho "\'" >{tmp_path}/.env\necho two {KEY}\n', encoding="utf-8"
    )
    (tmp_path / "journalctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("SWARM_LITELLM", str(tmp_path))
    assert native.logs(follow=True, lines=9) == 0
    assert capsys.readouterr().out == "one ***\ntwo ***\n"


def test_the_wait_for_the_services_is_the_one_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`litellm.up --native --timeout` limits the wait until the proxy is ready; a time that is none is refused."""
    for name in ("systemctl", "loginctl"):
        (tmp_path / name).write_text("#!/bin/sh\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd/private").touch()  # of a user's manager that runs
    (tmp_path / "config.yaml").touch()
    keys = "LITELLM_MASTER_KEY=k\nLITELLM_SALT_KEY=k\nLITELLM_DB_PASSWORD=k\nLITELLM_PORT=1\n"
    (tmp_path / ".env").write_text(keys, encoding="utf-8")
    (tmp_path / "litellm/postgres").mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("SWARM_STATE", "SWARM_LITELLM", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(postgres, "find", lambda _: tmp_path)
    monkeypatch.setattr(install, "prepare", lambda _: tmp_path)
    with pytest.raises(CommandFailed, match=r"not ready after 1 s: .*nothing listens") as caught:
        commands.up(native=True, limit=1, as_json=True)
    assert "--timeout" in str(caught.value)
    with pytest.raises(UsageError, match="--timeout"):
        commands.up(native=True, limit=0, as_json=True)
