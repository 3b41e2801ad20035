"""Fixtures of the tests with a real LiteLLM: one for all of them, emptied before each test."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import requests

from swarm.files import write_atomically
from swarm.litellm import environment
from swarm.litellm.client import Client, client
from tools.litellm.postgres import binaries
from tools.litellm.rig import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Dirs


@dataclass(frozen=True)
class Lite:
    """A litellm folder with a .env for the running proxy, and a client with its master key."""

    folder: Path
    proxy: Proxy
    client: Client

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Post something as a script would, and return the answer. Fail if it is no success."""
        headers = {"Authorization": f"Bearer {self.proxy.master_key}"}
        answer = requests.post(f"{self.proxy.url}{path}", json=body, headers=headers, timeout=60)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture(scope="package")
def proxy(base: Path) -> Iterator[Proxy]:
    """A running LiteLLM. Skip where PostgreSQL is not installed."""
    if not binaries() or not shutil.which("psql"):
        pytest.skip("PostgreSQL is not installed")
    folder = base / "litellm"
    folder.mkdir()
    made = Proxy(folder)
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def lite(
    proxy: Proxy,
    dirs: Dirs,  # noqa: ARG001 - keeps swarm out of the user's own folders
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Lite]:
    """The proxy without any model or credential, and a litellm folder of the test's own."""
    proxy.reset()
    folder = tmp_path / "litellm"
    folder.mkdir()
    lines = {
        environment.MASTER: proxy.master_key, environment.SALT: proxy.salt_key, "LITELLM_URL": proxy.url
    }  # fmt: skip
    text = "".join(f"{name}={value}\n" for name, value in lines.items())
    write_atomically(folder / ".env", text, 0o600)
    monkeypatch.setenv("SWARM_LITELLM", str(folder))
    with client(environment.read()) as session:
        yield Lite(folder, proxy, session)
