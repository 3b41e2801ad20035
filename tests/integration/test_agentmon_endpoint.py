"""The question whether the hook's own endpoint takes events, asked by the Node that OpenClaw requires."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, cast

import pytest

from swarm.agentmon import endpoint
from swarm.agentmon.envelope import parse
from swarm.agentmon.receiver import Receiver
from swarm.console import Screen, Talk
from swarm.paths import ROOT
from tests.agentmon_events import event
from tools.node import node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Ask = Callable[[str], tuple[str, str]]

ADDRESS = "127.0.61.7"  # of the loopback network: nobody else listens there
REFUSED = 6000  # a port that Node's fetch refuses ("bad port")


class Here:
    """A guest that is this machine."""

    alias = "zap"

    def check(self, script: str, _what: str, *, timeout: float) -> str:
        """Run a script and return its output."""
        done = subprocess.run(
            ["sh", "-c", script], capture_output=True, text=True, check=False, timeout=timeout
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Return a function that asks the endpoint at a URL, and gives the error and the warning, if any."""
    shutil.copytree(ROOT / "hooks/agentmon", tmp_path / "hooks/agentmon")
    monkeypatch.setenv("PATH", f"{Path(node()).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(endpoint, "alone_as", lambda _user, script: script)

    def run(url: str) -> tuple[str, str]:
        (tmp_path / ".env").write_text(f"AGENTMON_INGEST_URL={url}\n", encoding="utf-8")
        settings = cast("Any", type("Settings", (), {"config_dir": str(tmp_path), "user": "openclaw"}))
        events = parse(json.dumps(event()).encode())
        capsys.readouterr()
        found = endpoint.rejection(cast("Any", Here()), settings, events, Talk(Screen(), "zap"))
        return found.message if found else "", " ".join(capsys.readouterr().err.split())

    return run


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """Answer one request at ADDRESS with these bytes. Give the port."""
    with socket.create_server((ADDRESS, 0)) as listening:

        def serve() -> None:
            client, _ = listening.accept()
            with client, suppress(ConnectionError):
                client.recv(1 << 16)
                client.sendall(answer)

        thread = Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


def test_a_port_that_fetch_refuses_is_asked_too(ask: Ask) -> None:
    """An endpoint at a port that browsers refuse is asked as the hook asks it, and takes the event."""
    with Receiver(ADDRESS, REFUSED) as receiver:
        arrived = []

        def read() -> None:
            with receiver.take(30) as delivery:
                arrived.extend(delivery.events if delivery else [])

        reader = Thread(target=read)
        reader.start()
        assert ask(receiver.url) == ("", "")
        reader.join()
    assert len(arrived) == 1


@pytest.mark.parametrize("status", ["302 Found\r\nlocation: http://127.0.61.7:1/", "401 Unauthorized"])
def test_an_endpoint_that_takes_no_events_is_an_error(ask: Ask, status: str) -> None:
    """A redirect is not followed and is an error like a refusal, and a long answer is not read to its end."""
    head = f"HTTP/1.1 {status}\r\ncontent-length: 1000000000\r\n\r\n"
    with answering(head.encode() + b"x" * 70_000) as port:
        error, warning = ask(f"http://{ADDRESS}:{port}")
    assert (error, warning) == (f"zap: the endpoint does not take the hook's events (HTTP {status[:3]})", "")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 503 Busy\r\n\r\n", "HTTP 503"),
        (b"hello\r\n\r\n", "the answer is not one of HTTP/1"),
        (b"", "the connection was closed"),
    ],
)
def test_an_endpoint_that_is_down_is_a_warning(ask: Ask, answer: bytes, reason: str) -> None:
    """An endpoint that is busy, or whose answer can't be read, is warned of with the reason."""
    with answering(answer) as port:
        error, warning = ask(f"http://{ADDRESS}:{port}")
    said = f"the endpoint does not take the guest's events now ({reason}); they wait there until it does"
    assert (error, said in warning) == ("", True)
