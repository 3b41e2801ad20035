"""A real Docker engine for the tests of this folder. Where none can start, they are skipped with the reason."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm.paths import ROOT
from tools.docker import Engine, missing
from tools.seaweed import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

STANDIN = Path(__file__).parent / "standin"
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
PLANTED = "sk-planted-key-of-a-provider"
PROGRAMS = f"{POSTGRES[-1] if POSTGRES else ''}:/usr/sbin:/usr/bin:/sbin:/bin"
PATH = f"ENV PATH=/opt/bin:{PROGRAMS}"
USERS = {"etc/passwd": "root:x:0:0::/:/bin/sh\npostgres:x:999:999::/:/bin/sh\n"}
DATABASE = """
  litellm-db:
    volumes: ["/usr:/usr:ro"]
    healthcheck: {interval: 1s}
    environment: {LATE: "${LATE:-0}"}
    stop_signal: SIGINT  # as that of the official image: don't wait for clients
    stop_grace_period: 1s
"""
OVERRIDE = f"""
services:
  litellm:
    volumes: ["/usr:/usr:ro"]
    healthcheck: {{interval: 1s}}
    stop_grace_period: 1s
{DATABASE}
  litellm-migrate: {{volumes: ["/usr:/usr:ro"]}}
  litellm-init: {{volumes: ["/usr:/usr:ro"]}}
"""


@dataclass
class Project:
    """A copy of litellm/ whose containers run stand-ins for LiteLLM and a real PostgreSQL."""

    folder: Path
    environment: dict[str, str]
    engine: Engine

    @property
    def env(self) -> Path:
        """Its .env."""
        return self.folder / "litellm" / ".env"

    def inv(self, command: str, *options: str, limit: float = 240) -> subprocess.CompletedProcess[str]:
        """Run a command as a user does."""
        argv = [sys.executable, "-P", str(ROOT / "swarm" / "__main__.py"), command, *options]
        return subprocess.run(
            argv, env=self.environment, capture_output=True, text=True, timeout=limit, check=False
        )

    def begin(self, command: str) -> subprocess.Popen[str]:
        """Start a command."""
        argv = [sys.executable, "-P", str(ROOT / "swarm" / "__main__.py"), command]
        return subprocess.Popen(argv, env=self.environment, stderr=subprocess.PIPE, text=True)

    def up(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Start it. Fail if that fails."""
        done = self.inv("litellm.up", *options)
        assert done.returncode == 0, done.stderr
        return done

    def id(self, service: str) -> str:
        """Return the id of a service's container."""
        label = f"--filter=label=com.docker.compose.service={service}"
        return self.engine.docker("ps", "--all", "--quiet", "--no-trunc", label)

    def inspect(self, service: str, field: str) -> str:
        """Return one field of a service's container."""
        return self.engine.docker("inspect", "--format", "{{" + field + "}}", self.id(service))

    def sql(self, statement: str) -> str:
        """Run a statement in the database."""
        return self.engine.docker(
            "exec", self.id("litellm"), "sh", "-c", f'psql -qAt "$DATABASE_URL" -c "{statement}"'
        )

    def set(self, name: str, value: str = "") -> None:
        """Set a variable of .env, or remove it."""
        lines = [line for line in self.env.read_text().splitlines() if not line.startswith(f"{name}=")]
        lines += [f"{name}={value}"] if value else []
        self.env.write_text("\n".join(lines) + "\n")

    def clear(self) -> None:
        """Remove containers, networks and volumes."""
        self.inv("litellm.down")
        self.engine.docker("network", "prune", "--force")  # of a start that failed before it had a container
        if names := self.engine.docker("volume", "ls", "--quiet").split():
            self.engine.docker("volume", "rm", *names)
        self.env.unlink(missing_ok=True)


@pytest.fixture(scope="package")
def engine(base: Path) -> Iterator[Engine]:
    """A dockerd of its own, with the images."""
    if lacking := missing() + ([] if POSTGRES else ["PostgreSQL"]):
        pytest.skip(f"a Docker engine with the containers of LiteLLM needs {', '.join(lacking)}")
    folder = base / "docker"
    folder.mkdir()
    with Engine(folder) as made:
        if not made.start():
            pytest.skip(f"no Docker engine can start here: {made.log[-300:]}")
        files = {
            "opt/bin/python": '#!/bin/sh\nexec /usr/bin/python3 "$@"\n',
            "opt/standin/proxy.py": (STANDIN / "proxy.py").read_text(),
            "opt/standin/litellm/proxy/prisma_migration.py": (STANDIN / "migrate.py").read_text(),
        }
        start = 'ENTRYPOINT ["python", "/opt/standin/proxy.py"]'
        made.host_image("litellm:1", USERS | files, (PATH, "ENV PYTHONPATH=/opt/standin", start))
        script = {"opt/database.sh": (STANDIN / "database.sh").read_text()}
        made.host_image("postgres:1", USERS | script, (PATH, 'ENTRYPOINT ["/opt/database.sh"]'))
        yield made


@pytest.fixture(scope="module", autouse=True)
def _inside(engine: Engine) -> Iterator[None]:
    """Let the tests of a module reach the published ports, which are in the engine's namespace."""
    with engine.inside():
        yield


@pytest.fixture(scope="module")
def project(engine: Engine, base: Path) -> Iterator[Project]:
    """A copy of litellm/ with stand-ins, shared by the tests."""
    made = make_project(base / "project", engine, "litellm:1", OVERRIDE)
    (made.folder / "swarm" / "litellm").mkdir(parents=True)
    shutil.copy2(STANDIN / "first.py", made.folder / "swarm" / "litellm")
    (made.folder / "litellm" / "models.yaml").write_text("models: []\n")
    yield made
    made.clear()


def make_project(folder: Path, engine: Engine, image: str, override: str) -> Project:
    """Return a copy of litellm/ at a free port, without models.yaml."""
    (folder / "litellm").mkdir(parents=True)
    for name in ("compose.yaml", "config.yaml"):
        shutil.copy2(ROOT / "litellm" / name, folder / "litellm")
    (folder / "litellm" / "compose.override.yaml").write_text(override)
    text = (ROOT / "litellm" / ".env.example").read_text()
    text = text.replace("# OPENAI_API_KEY=", f"OPENAI_API_KEY={PLANTED}")
    text = text.replace("# LITELLM_PORT=18804", f"LITELLM_PORT={free_ports(1)[0]}")
    (folder / "litellm" / ".env.example").write_text(text)
    environment = os.environ | engine.environment | {
        "SWARM_LITELLM": str(folder / "litellm"),
        "LITELLM_IMAGE": image,
        "LITELLM_POSTGRES_IMAGE": "postgres:1",
    }  # fmt: skip
    return Project(folder, environment, engine)


@pytest.fixture
def fresh(project: Project) -> Project:
    """The project without containers, database and .env."""
    project.clear()
    return project
