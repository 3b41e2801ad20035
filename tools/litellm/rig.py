"""A running LiteLLM with its database and its provider."""

from __future__ import annotations

import json
import secrets
import subprocess
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarm.deadline import Deadline
from swarm.litellm import install
from swarm.litellm.client import Client
from swarm.paths import ROOT
from tools.lab.process import LabError, tail
from tools.litellm.parts import HERE, parts
from tools.litellm.postgres import Cluster
from tools.litellm.upstream import Upstream
from tools.seaweed import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["CONFIG_MODEL", "Proxy", "running"]

CONFIG_MODEL = "from-config"  # the one model of the configuration file
_WITHIN = 240.0  # seconds to start, 25 on an idle machine
_APPLIED = 90.0  # seconds until rows of the database are in the router; it looks every 30
_TABLES = ("LiteLLM_ProxyModelTable", "LiteLLM_CredentialsTable", "LiteLLM_Config")


class Proxy:
    """LiteLLM in an empty folder that other users can enter. `variables` are added to those of its process."""

    def __init__(self, folder: Path, variables: Mapping[str, str] | None = None) -> None:
        self._parts, self._variables = parts(), dict(variables or {})
        port, database = free_ports(2)
        self.folder, self.log, self.port = folder, folder / "litellm.log", port
        self.url = f"http://127.0.0.1:{port}"
        self.master_key, self.salt_key = (f"sk-{secrets.token_hex(32)}" for _ in range(2))
        self.upstream = Upstream()
        self._process: subprocess.Popen[bytes] | None = None
        self.database = Cluster(folder / "postgres", database)
        self.database.start()
        self.database.psql("-c", "create database litellm", database="postgres")
        self.database.psql("-1", "-f", self._parts.folder / "schema.sql")
        self._configure()

    # ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def pid(self) -> int | None:
        """The ID of the proxy's process, or None if it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self, *, wait: bool = True) -> None:
        """Start the proxy and wait until it is ready. Raise LabError with the end of its log if that fails."""
        if self.pid:
            return
        keys = {"LITELLM_MASTER_KEY": self.master_key, "LITELLM_SALT_KEY": self.salt_key}
        variables = install.environment(
            self._parts.venv, keys, self.database.url(), {"HOME": str(self.folder)}
        )
        variables |= self._parts.variables | self._variables
        variables["PATH"] = f"{self._parts.folder / 'bin'}:{variables['PATH']}"
        words = ("--config", self.folder / "config.yaml", "--host", "127.0.0.1", "--port", str(self.port))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._parts.venv / "bin/litellm", *words, "--telemetry", "False"],
                env=variables, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        if wait:
            self.wait()

    def wait(self) -> None:
        """Wait until the proxy is ready: its database is connected. Raise LabError if it ends or takes too long."""
        deadline = Deadline(_WITHIN)
        with self.client() as client:
            while not self.ready(client):
                if not self.pid or not deadline.pause(0.25):
                    end = tail(self.log.read_text(encoding="utf-8", errors="replace"), 30)
                    what = "is not ready" if self.pid else "ended"
                    raise LabError(
                        f"LiteLLM {what} after {deadline.elapsed:.0f} s; the end of its log:\n{end}"
                    )

    def ready(self, client: Client) -> bool:
        """Return whether it is ready now."""
        health = client.health("readiness")
        return health.status == 200 and health.body.get("db") == "connected"  # noqa: PLR2004 - HTTP's "OK"

    def stop(self) -> None:
        """Ask the proxy to end, and wait."""
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        self._process = None

    def kill(self) -> None:
        """End the proxy at once, as a lack of memory does."""
        if self._process:
            self._process.kill()
            self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Stop and start the proxy."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End everything."""
        self.kill()
        self.database.stop()
        self.upstream.close()

    # ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def client(self, key: str | None = None) -> Client:
        """Return a client with the master key or another one."""
        return Client(self.url, key or self.master_key)

    def psql(self, sql: str) -> str:
        """Run a statement in the database. Return one line for each row, with columns separated by |."""
        return self.database.psql("-c", sql).strip()

    def params(self, key: str = "sk-test") -> dict[str, Any]:
        """Return parameters of a model that the fake provider serves."""
        return {"model": "openai/gpt-4o-mini", "api_key": key, "api_base": self.upstream.url}

    def seed(self, rows: int | Iterable[Mapping[str, Any]]) -> list[str]:
        """Write models into the database, and wait until the proxy lists them. Return their ids.

        `rows` have the keys name and params, and may have id and info. A number stands for that many different ones.
        """
        if isinstance(rows, int):
            rows = [
                {"name": f"seed-{number}", "params": self.params(f"sk-seed-{number:06}")}
                for number in range(rows)
            ]
        full = [{"id": str(uuid.uuid4()), "info": {}, **row} for row in rows]
        text = json.dumps({"url": self.database.url(), "salt": self.salt_key, "rows": full})
        python = self._parts.venv / "bin/python"
        done = subprocess.run(
            [python, HERE / "seed.py"], input=text, text=True, capture_output=True, check=False
        )
        if done.returncode:
            raise LabError(f"seed.py failed: {tail(done.stderr)}")
        ids = [str(row["id"]) for row in full]
        self._applied(set(ids))
        return ids

    def reset(self) -> None:
        """Start what does not run. Delete all models and credentials, and all settings from the database."""
        self.upstream.reset()
        if not self.database.running:
            self.database.start()
        self.start(wait=False)
        self.wait()
        with self.client() as client:
            for credential in client.credentials():
                client.delete_credential(credential.name)
        self.psql("; ".join(f'delete from "{table}"' for table in _TABLES))  # noqa: S608 - fixed names
        self._applied(set())

    def _applied(self, wanted: set[str]) -> None:
        """Wait until the proxy lists these models of the database. Each addition through the API makes it look."""
        deadline = Deadline(_APPLIED)
        with self.client() as client:
            while not wanted <= (found := _from_db(client)) or (not wanted and found):
                own = str(uuid.uuid4())
                client.add_model("rig", self.params(), {"id": own})
                client.delete_model(own)
                if not deadline.pause(0.1):
                    raise LabError(
                        f"LiteLLM lists {len(found)} models of the database, expected {len(wanted)}"
                    )

    def _configure(self) -> None:
        """Write the configuration: that of production, and one model."""
        from ruamel.yaml import YAML

        yaml, source = YAML(typ="safe"), ROOT / "litellm/config.yaml"
        settings = yaml.load(source) if source.exists() else {"general_settings": {}}
        settings["model_list"] = [{"model_name": CONFIG_MODEL, "litellm_params": self.params()}]
        with (self.folder / "config.yaml").open("w", encoding="utf-8") as file:
            yaml.dump(settings, file)


@contextmanager
def running() -> Iterator[Proxy]:
    """Run a LiteLLM in a scratch folder during the block."""
    with tempfile.TemporaryDirectory(prefix="swarm-litellm-") as name:
        Path(name).chmod(0o755)
        proxy = Proxy(Path(name))
        try:
            proxy.start()
            yield proxy
        finally:
            proxy.close()


def _from_db(client: Client) -> set[str]:
    return {row.id for row in client.rows() if row.from_db}
