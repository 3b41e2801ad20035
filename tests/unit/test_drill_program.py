"""The program that a drill runs in its guest, run here against real databases, sockets and HTTP servers."""

from __future__ import annotations

import http.server
import json
import socket
import subprocess
import sys
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from swarm.paths import ROOT
from tests.state import DATABASE, make_state

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = (ROOT / "templates/guest/drill.py").read_text(encoding="utf-8")
ROWS = {"transcript": 50, "sessions": 0}


def answer(**order: Any) -> dict[str, Any]:
    """Return what the program answers."""
    text = f"import json\nORDER = json.loads({json.dumps(order)!r})\n{PROGRAM}"
    argv = [sys.executable, "-I", "-X", "utf8", "-"]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=True, timeout=60)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def problems(state: Path, **tables: dict[str, int]) -> list[str]:
    """Return what the program finds wrong with the agent's database."""
    found = answer(action="databases", state=str(state), databases=tables or {DATABASE: ROWS})
    return list(found["problems"])


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory."""
    return make_state(tmp_path / "state")


def test_sound_databases_pass_and_stay_as_they_are(state: Path) -> None:
    """A database with all its rows has no problem, and reading it leaves no -wal or -shm file."""
    before = sorted(path.name for path in (state / DATABASE).parent.iterdir())
    assert problems(state) == []
    assert sorted(path.name for path in (state / DATABASE).parent.iterdir()) == before


def test_missing_rows_and_tables_are_named(state: Path) -> None:
    """A lost row and a lost table are problems, although integrity_check says ok."""
    (lost,) = problems(state, **{DATABASE: {"transcript": 51}})
    assert lost == f"{DATABASE}: transcript has 50 rows, expected 51"
    (gone,) = problems(state, **{DATABASE: {'odd "table"': 1}})
    assert "no such table" in gone


def test_damaged_and_missing_databases_are_named(state: Path) -> None:
    """A file that is no database, and one that is not there, are problems that name the path."""
    (state / DATABASE).write_bytes(b"not a database" * 1000)
    (damaged,) = problems(state)
    assert damaged.startswith(f"{DATABASE}: ")
    (state / DATABASE).unlink()
    (missing,) = problems(state)
    assert missing.startswith(f"{DATABASE}: ")


def test_only_what_accepts_a_connection_answers() -> None:
    """An open port is reported as reached, a closed one is not."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = answer(action="reach", targets=[["127.0.0.1", port], ["127.0.0.2", port]], gateway="")
    assert found["answered"] == ["127.0.0.1"]


@contextmanager
def gateway(**codes: int) -> Iterator[int]:
    """Serve /healthz and /readyz with these status codes. Give the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(codes[self.path.lstrip("/")])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(
    ("healthz", "readyz", "expected"),
    [(200, 200, (True, True)), (200, 503, (False, True)), (503, 503, (False, False))],
)
def test_gateway_is_ready_or_at_least_alive(healthz: int, readyz: int, expected: tuple[bool, bool]) -> None:
    """A gateway that is ready, one that only lives, and one that does neither are told apart."""
    with gateway(healthz=healthz, readyz=readyz) as port:
        found = answer(action="gateway", port=port, timeout=1)
    assert (found["ready"], found["alive"]) == expected
    assert bool(found["reason"]) is not found["ready"]
