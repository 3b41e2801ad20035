"""Links on their way from a guest into an archive, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from swarm.backup.catalog import Catalog
from swarm.backup.mirror import Source
from swarm.backup.now import back_up
from swarm.backup.recover import from_archive
from swarm.backup.restore import Target, restore
from swarm.console import Talk, screen
from tests.integration.guest_state import make_place
from tests.state import snapshot_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Dirs
    from tests.integration.guest_state import Place
    from tests.sshd import Sshd


@pytest.fixture
def place(server: Sshd, keys: Path, dirs: Dirs) -> Iterator[Place]:
    """A guest with a state directory. Its archives go to one directory."""
    with make_place(server, keys, dirs.hosts.parent) as made:
        made.mirror = dirs.mirrors / made.host
        yield made


def test_an_archive_brings_back_every_link(place: Place, tmp_path: Path) -> None:
    """Links that lead out of the state directory come back from an archive as from the mirror, and no check fails."""
    outside = tmp_path / "outside"
    outside.mkdir()
    links = {"hooks/passwd": "/etc/passwd", "skills": str(outside), "cron/up": "../../..", "gone": "/no/such"}
    for name, target in links.items():
        (place.state / name).symlink_to(target)
    source = Source(place.guest().link, place.host, None, place.user, str(place.state))
    talk = Talk(screen(), quiet=True)
    back_up(source, place.settings, talk)
    for name in links:
        (place.state / name).unlink()
    to = Target(place.guest(), place.host, place.user, str(place.state), 1, service=False)
    with from_archive(Catalog(place.host, place.settings), "latest", talk) as origin:
        assert snapshot_of(origin.tree) == snapshot_of(place.mirror)
        done = restore(to, origin.tree, origin.manifest, place.settings, talk)
        again = restore(to, origin.tree, origin.manifest, place.settings, talk, plan_only=True)
    assert done.problems == ()
    assert not again.changes
    assert {name: str((place.state / name).readlink()) for name in links} == links
    assert list(outside.iterdir()) == []
