"""Whole runs of a backup after something odd: a wrong clock, a failed command, a damaged record."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from swarm.backup import record
from swarm.backup.catalog import Catalog
from swarm.backup.mirror import Source
from swarm.backup.monitor import ping
from swarm.backup.now import back_up
from swarm.console import Talk, screen
from swarm.inventory.backup import BackupSettings
from tests.integration.guest_state import make_place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from swarm.backup.now import Report
    from tests.conftest import Dirs
    from tests.integration.guest_state import Place
    from tests.sshd import Sshd


@pytest.fixture
def place(server: Sshd, keys: Path, dirs: Dirs) -> Iterator[Place]:
    """A guest with a state directory. Its archives go to one directory."""
    with make_place(server, keys, dirs.hosts.parent) as made:
        made.mirror = dirs.mirrors / made.host
        yield made


def run(place: Place, **changed: object) -> Report:
    """Back the guest up with changed settings."""
    place.settings = place.settings.model_validate({**place.settings.model_dump(mode="json"), **changed})
    source = Source(place.guest().link, place.host, None, place.user, str(place.state))
    return back_up(source, place.settings, Talk(screen(), quiet=True))


def test_an_archive_of_a_wrong_clock_is_not_current(place: Place, dirs: Dirs) -> None:
    """If the last archive is dated in the future, an unchanged guest gets another, which then is the latest."""
    made = str(run(place).archive)
    future = f"zap-{datetime.now(UTC) + timedelta(days=400):%Y%m%dt%H%M%Sz}"
    for path in dirs.backups.glob(f"{made}.*"):
        path.rename(path.with_name(path.name.replace(made, future)))
    known = record.load(place.host)
    known.archive, known.archives = future, {future: known.archives[made]}
    record.save(place.host, known)
    again = run(place)
    assert again.archive
    assert str(Catalog(place.host, place.settings).find("latest")[1]) == again.archive
    assert run(place).current == again.archive


class Pings(BaseHTTPRequestHandler):
    """Remembers each request's path and body."""

    seen: list[tuple[str, str]] = []  # noqa: RUF012 - emptied by switch()

    def do_POST(self) -> None:
        """Answer with success."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.seen.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def switch() -> Iterator[str]:
    """Run a dead man's switch. Yield its URL."""
    Pings.seen.clear()
    with HTTPServer(("127.0.0.1", 0), Pings) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_switch_is_called_as_the_schema_says() -> None:
    """The paths that are appended are those of the description. A warning resets the switch as a success does."""
    with switch() as url:
        assert [ping(url, state, []) for state in ("start", "success", "warn", "fail")] == [None] * 4
    paths = [path for path, _ in Pings.seen]
    assert paths == ["/start", "/", "/", "/fail"]
    text = BackupSettings.model_fields["ping"].description or ""
    assert {"/", *re.findall(r"/[a-z]+", text)} == set(paths)
