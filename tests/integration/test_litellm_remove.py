"""`inv litellm.remove` shows what it would delete, asks, deletes it, and looks again.

tests/litellm removes a model from a real LiteLLM. The proxy here answers two requests, and may claim a deletion that it
does not make, which a real one cannot be made to do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from swarm.files import write_atomically
from swarm.litellm import environment
from swarm.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Dirs

MODELS = """credentials:
  - name: openai
    key_env: OPENAI_API_KEY
models:
  - name: nano
    model: openai/gpt-5-nano
    credential: openai
  - name: mini
    model: openai/gpt-5-mini
    credential: openai
"""


class Proxy(ThreadingHTTPServer):
    """A proxy with these models: name, and whether it is in the database. With `forgetful`, it deletes nothing."""

    def __init__(self, *rows: tuple[str, bool], forgetful: bool = False) -> None:
        self.rows = dict(enumerate(rows))
        self.forgetful = forgetful
        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def listing(self) -> dict[str, Any]:
        """The answer to /model/info."""
        return {
            "data": [
                {
                    "model_name": name,
                    "litellm_params": {"model": f"openai/gpt-5-{name}"},
                    "model_info": {"id": str(number), "db_model": stored},
                }
                for number, (name, stored) in self.rows.items()
            ]
        }


class Answer(BaseHTTPRequestHandler):
    """Answers with the listing, and deletes the row that a POST names."""

    server: Proxy

    def do_GET(self) -> None:
        """Send the listing."""
        self._send(self.server.listing)

    def do_POST(self) -> None:
        """Delete a row."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.server.forgetful:
            del self.server.rows[int(body["id"])]
        self._send({})

    def _send(self, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Write nothing to stderr."""


@pytest.fixture
def folder(dirs: Dirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001 - swarm's own folders
    """Give a litellm folder with a models.yaml."""
    monkeypatch.setenv("SWARM_LITELLM", str(tmp_path))
    (tmp_path / "models.yaml").write_text(MODELS, encoding="utf-8")
    return tmp_path


@contextmanager
def running(folder: Path, *rows: tuple[str, bool], forgetful: bool = False) -> Iterator[Proxy]:
    """Run a proxy, and write its address to .env."""
    with Proxy(*rows, forgetful=forgetful) as proxy:
        lines = {environment.MASTER: "sk-0123456789abcdef", environment.SALT: "sk-fedcba9876543210"}
        lines["LITELLM_URL"] = f"http://127.0.0.1:{proxy.server_port}"
        write_atomically(folder / ".env", "".join(f"{key}={value}\n" for key, value in lines.items()), 0o600)
        thread = Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()


def remove(*words: str) -> subprocess.CompletedProcess[str]:
    """Run `inv litellm.remove` without a terminal."""
    command = [sys.executable, "-P", str(ROOT / "swarm" / "__main__.py"), "litellm.remove", *words]
    return subprocess.run(
        command, env=os.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(("words", "code"), [(("--plan", "--yes"), 0), ((), 1)])
def test_nothing_is_removed_before_an_answer(folder: Path, words: tuple[str, ...], code: int) -> None:
    """--plan, and a question without an answer, show what would go and keep both the file and the database."""
    with running(folder, ("nano", True), ("mini", True)) as proxy:
        done = remove("nano", *words)
        assert (done.returncode, len(proxy.rows)) == (code, 2), done.stderr
    assert "- nano in models.yaml\n- model nano: openai/gpt-5-nano\n" in done.stderr
    assert (folder / "models.yaml").read_text(encoding="utf-8") == MODELS


def test_a_model_only_in_the_file_is_asked_about(folder: Path) -> None:
    """An entry of models.yaml is not removed without an answer either."""
    with running(folder):
        assert remove("nano").returncode == 1
        assert (folder / "models.yaml").read_text(encoding="utf-8") == MODELS
        assert remove("nano", "--yes").returncode == 0
    assert "gpt-5-nano" not in (folder / "models.yaml").read_text(encoding="utf-8")


def test_what_is_removed_is_looked_for_again(folder: Path) -> None:
    """A model that the proxy still lists after it confirmed the deletion is an error."""
    with running(folder, ("nano", True), forgetful=True):
        done = remove("nano", "--yes")
    assert done.returncode == 1
    assert "changes are left after all steps ran: - model nano: openai/gpt-5-nano" in done.stderr


def test_a_model_of_the_configuration_file_is_named(folder: Path) -> None:
    """What config.yaml has stays, and is no failure; a model that is nowhere is one."""
    with running(folder, ("nano", True), ("nano", False)) as proxy:
        done = remove("nano", "--yes")
        assert (done.returncode, list(proxy.rows.values())) == (0, [("nano", False)]), done.stderr
        assert "nano is also in LiteLLM's config.yaml" in done.stderr
        assert remove("other", "--yes").returncode == 1
