"""Links on their way from a guest into an archive, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.backup.catalog import Catalog
from swarm.backup.recover import from_archive
from swarm.backup.restore import Target, restore
from swarm.console import Talk, screen
from tests.integration.guest_state import run_backup
from tests.state import snapshot_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.guest_state import Place


def test_an_archive_brings_back_every_link(place: Place, tmp_path: Path) -> None:
    """Links that lead out of the state directory come back from an archive as from the mirror, and no check fails."""
    outside = tmp_path / "outside"
    outside.mkdir()
    links = {"hooks/passwd": "/etc/passwd", "skills": str(outside), "cron/up": "../../..", "gone": "/no/such"}
    for name, target in links.items():
        (place.state / name).symlink_to(target)
    run_backup(place)
    talk = Talk(screen(), quiet=True)
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
