"""Whole runs of a backup after something odd: a wrong clock, a failed command, a damaged record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from swarm.backup import record
from swarm.backup.catalog import Catalog
from swarm.backup.mirror import Source
from swarm.backup.now import back_up
from swarm.console import Talk, screen
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
