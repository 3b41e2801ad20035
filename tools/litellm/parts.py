"""What a LiteLLM of the tests is made of. It is made once and cached."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from swarm.console import Talk, screen
from swarm.litellm import install
from swarm.locks import hold
from tools.lab.process import LabError, tail
from tools.litellm.postgres import Cluster
from tools.seaweed import free_ports

__all__ = ["HERE", "Parts", "parts"]

HERE = Path(__file__).parent
_CACHE = Path("/var/cache/swarm-tests") if os.geteuid() == 0 else Path.home() / ".cache" / "swarm-tests"
_ENGINES = dict(
    zip(install.ENGINES, map(str, (HERE / "query-engine.cjs", HERE / "schema-engine.sh")), strict=True)
)


@dataclass(frozen=True)
class Parts:
    """The virtual environment, and a folder with node_modules, schema.sql and an empty `prisma`."""

    venv: Path
    folder: Path

    @property
    def variables(self) -> dict[str, str]:
        """What makes LiteLLM use the stand-in engine, and leave the tables alone."""
        return {
            **_ENGINES,
            "NODE_MODULES": str(self.folder / "node_modules"),
            "DISABLE_SCHEMA_UPDATE": "true",
        }


def parts() -> Parts:
    """Return what LiteLLM needs, made at first use. Raise SwarmError or LabError."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _ENGINES.items():
            patch.setenv(name, value)
        venv = install.prepare(Talk(screen()), _CACHE)
    sources = [HERE / name for name in ("package-lock.json", "package.json", "schema-diff.mjs")]
    digest = sha256(b"".join(path.read_bytes() for path in sources) + venv.name.encode()).hexdigest()
    found = Parts(venv, _CACHE / f"litellm-node-{digest[:12]}")
    if not found.folder.exists():
        with hold(_CACHE / "litellm-node.lock"):
            if not found.folder.exists():
                _make(found)
    return found


def _make(wanted: Parts) -> None:
    fresh = Path(tempfile.mkdtemp(prefix="litellm-node-new-", dir=_CACHE))
    try:
        fresh.chmod(0o755)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, fresh)
        _program(wanted.venv, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", folder=fresh)
        _schema(wanted.venv, fresh)
        # Python writes the bytecode of what it imports, if it may. Most tests run LiteLLM where it may not, and would
        # compile 4,500 files at each start: 14 s of processor time.
        compiled = install.environment(wanted.venv, {}, "") | {"PYTHONDONTWRITEBYTECODE": ""}
        _program(
            wanted.venv, "python", "-c", "import litellm.proxy.proxy_server", folder=fresh, variables=compiled
        )
        # What LiteLLM calls to bring the tables up to date. They are up to date.
        (fresh / "bin").mkdir()
        (fresh / "bin/prisma").write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
        (fresh / "bin/prisma").chmod(0o755)
        fresh.rename(wanted.folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _schema(venv: Path, folder: Path) -> None:
    """Write schema.sql, which makes LiteLLM's tables. The schema engine asks a real server which version it has."""
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)
        cluster = Cluster(Path(scratch) / "pg", free_ports(1)[0])
        cluster.start()
        try:
            variables = {
                "NODE_MODULES": str(folder / "node_modules"),
                "DATABASE_URL": cluster.url("postgres"),
            }
            words = (HERE / "schema-diff.mjs", install.schema(venv), folder / "schema.sql")
            _program(venv, "node", *words, folder=folder, variables=variables)
        finally:
            cluster.stop()


def _program(
    venv: Path, name: str, *words: str | Path, folder: Path, variables: dict[str, str] | None = None
) -> None:
    environment = os.environ | {"PATH": f"{venv / 'bin'}:{os.environ['PATH']}"} | (variables or {})
    done = subprocess.run(
        [venv / "bin" / name, *words],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LabError(f"{name} failed: {tail(done.stderr or done.stdout)}")
