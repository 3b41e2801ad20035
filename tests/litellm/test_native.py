"""LiteLLM without Docker, as the services of an ordinary user on a real system."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from swarm.litellm import install
from swarm.text import quote
from tests.conftest import ROOT
from tools.lab import World, missing
from tools.litellm.parts import parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.lab import Machine

pytestmark = pytest.mark.slow

_HOME = "/home/llm"


class Native:
    """A user of a machine with PostgreSQL, who runs swarm's commands."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        made = parts()
        self._variables = {
            "HOME": _HOME,
            "SWARM_CACHE": str(made.venv.parent),
            "SWARM_LITELLM": f"{_HOME}/litellm",
            "PYTHONDONTWRITEBYTECODE": "1",
            **{name: made.variables[name] for name in install.ENGINES},
        }
        machine.ssh("apt-get update -q && apt-get install -qy --no-install-recommends postgresql", limit=600)
        machine.ssh("useradd -m llm && loginctl enable-linger llm")
        machine.until("test -S /run/user/$(id -u llm)/bus", "the user manager of llm")
        self.user(
            f"mkdir {_HOME}/litellm && cp {ROOT}/litellm/config.yaml {ROOT}/litellm/models.yaml {_HOME}/litellm/"
        )
        # What the stand-in for Prisma's engine needs.
        lines = f"NODE_MODULES={made.folder}/node_modules\nDISABLE_SCHEMA_UPDATE=true\n"
        self.user(f"umask 077 && printf %s {quote(lines)} >{_HOME}/litellm/.env")

    def user(self, command: str) -> str:
        """Run a shell command as the user, without a session. Return what it writes."""
        variables = quote(*(f"{name}={value}" for name, value in self._variables.items()))
        unset = "-u XDG_RUNTIME_DIR -u DBUS_SESSION_BUS_ADDRESS"
        return self.machine.ssh(
            f"cd / && runuser -u llm -- env {unset} {variables} sh -c {quote(command)} 2>&1", limit=600
        )

    def inv(self, words: str) -> str:
        """Run one of swarm's commands."""
        return self.user(self.command(words))

    def command(self, words: str) -> str:
        """Return the shell command for one of swarm's commands."""
        return quote(sys.executable, "-P", str(ROOT / "swarm/__main__.py"), *words.split())

    def systemctl(self, words: str) -> str:
        """Call the user's manager."""
        return self.user(f"XDG_RUNTIME_DIR=/run/user/$(id -u) systemctl --user {words}").strip()

    def sql(self, *words: str) -> str:
        """Run psql in LiteLLM's database."""
        setting = f". {_HOME}/litellm/.env && PGPASSWORD=$LITELLM_DB_PASSWORD"
        return self.user(
            f"{setting} psql -XqAt -h 127.0.0.1 -p 18805 -U litellm litellm {quote(*words)}"
        ).strip()


@pytest.fixture(scope="module")
def native() -> Iterator[Native]:
    """A machine of its own, which has swarm, its Python environment and LiteLLM's."""
    if lacking := missing():
        pytest.skip(f"systemd-nspawn machines need {', '.join(lacking)}")
    made = parts()
    binds = tuple(map(str, (ROOT, sys.prefix, made.venv, made.folder)))
    with World() as world:
        yield Native(world.machine(internet=True, binds=binds))


def test_litellm_runs_as_services_of_a_user(native: Native) -> None:
    """The first `up` makes keys, database and services; the second changes nothing; `down` keeps the database."""
    # The stand-in for Prisma's engine makes no tables, so the models can't be registered yet.
    said = native.user(f"! {native.command('litellm.up --native')}")
    assert "LiteLLM is ready at http://127.0.0.1:18804" in said
    native.sql("-f", str(parts().folder / "schema.sql"))
    native.inv("litellm.up --native")
    assert "nothing to do" in native.inv("litellm.up --native")
    assert "copilot-gpt" in native.inv("litellm.models")
    assert native.systemctl("is-enabled litellm litellm-db").split() == ["enabled", "enabled"]
    assert "readiness" in native.inv("litellm.status")

    # No key is where other users, or a backup of the units, could see it.
    key = native.user(f"sed -n 's/^LITELLM_MASTER_KEY=//p' {_HOME}/litellm/.env").strip()
    password = native.user(f"sed -n 's/^LITELLM_DB_PASSWORD=//p' {_HOME}/litellm/.env").strip()
    assert len(key) == 67
    seen = native.machine.ssh(f"ps axww; cat {_HOME}/.config/systemd/user/*.service")
    assert "litellm --config" in seen
    assert key not in seen
    assert password not in seen
    assert native.user(f"stat -c %a {_HOME}/.local/state/swarm/litellm/environment").strip() == "600"
    assert key not in native.inv("litellm.logs --native")

    native.sql("-c", "create table kept (number int); insert into kept values (7)")
    assert "stop LiteLLM" in native.inv("litellm.down --native")
    assert "nothing to do" in native.inv("litellm.down --native")
    assert "18804" not in native.machine.ssh("ss -ltn")
    assert "LiteLLM is ready" in native.inv("litellm.up --native")
    assert native.sql("-c", "select number from kept") == "7"


def test_a_killed_proxy_is_started_again(native: Native) -> None:
    """Systemd starts a proxy again that was killed."""
    native.inv("litellm.up --native")
    pid = native.systemctl("show --property=MainPID --value litellm")
    native.machine.ssh(f"kill -9 {pid}")
    native.machine.until("curl -fs http://127.0.0.1:18804/health/readiness", "LiteLLM after its death")
    assert native.systemctl("show --property=MainPID --value litellm") not in {pid, "0"}


def test_a_changed_configuration_restarts_the_proxy(native: Native) -> None:
    """`up` restarts the proxy after a change to config.yaml or to .env, and not the database."""
    native.inv("litellm.up --native")
    units = ("litellm", "litellm-db")
    before = [native.systemctl(f"show --property=MainPID --value {unit}") for unit in units]
    native.user(f"echo '# more' >>{_HOME}/litellm/config.yaml")
    line = "LANGFUSE_KEY='sk-$a`b'"
    native.user(f"echo {quote(line)} >>{_HOME}/litellm/.env")
    assert "LiteLLM is ready" in native.inv("litellm.up --native")
    after = [native.systemctl(f"show --property=MainPID --value {unit}") for unit in units]
    assert after[0] != before[0]
    assert after[1] == before[1]
    environment = native.machine.ssh(f"tr '\\0' '\\n' </proc/{after[0]}/environ")
    assert "LANGFUSE_KEY=sk-$a`b\n" in environment


def test_a_proxy_that_cannot_start_is_reported(native: Native) -> None:
    """A configuration that LiteLLM rejects ends `up` with the end of the log. After its repair, `up` succeeds."""
    file = f"{_HOME}/litellm/config.yaml"
    native.user(f"cp {file} {file}.good; echo 'model_list: [' >{file}")
    said = native.user(f"! {native.command('litellm.up --native')}")
    assert "error: LiteLLM ends again and again" in said
    assert "yaml" in said.lower()
    native.user(f"mv {file}.good {file}")
    assert "LiteLLM is ready" in native.inv("litellm.up --native")


def test_root_is_refused(native: Native) -> None:
    """Root gets a sentence about PostgreSQL, and nothing is made."""
    command = quote(sys.executable, "-P", str(ROOT / "swarm/__main__.py"), "litellm.up", "--native")
    said = native.machine.ssh(
        f"SWARM_STATE=/tmp/state SWARM_LITELLM={ROOT}/litellm {command} 2>&1 || ls -d /tmp/state || :"
    )
    assert "PostgreSQL refuses to run as root" in said
    assert native.machine.ssh("ls -d /tmp/state 2>/dev/null || echo none").strip() == "none"
