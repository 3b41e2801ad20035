"""What two hosts that are provisioned side by side make only once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError
from typing import TYPE_CHECKING, Any

import pytest

from swarm import images
from swarm.deadline import Deadline
from swarm.hypervisor.connection import Libvirt
from swarm.hypervisor.network import Network
from swarm.hypervisor.storage import Pool, find_pool
from swarm.vm import actions
from swarm.vm.actions import Action, Work
from swarm.vm.observe import Observed
from tests import samples
from tests.unit.ladders import talk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Dirs


@pytest.fixture
def works(dirs: Dirs, tmp_path: Path) -> Iterator[list[Work]]:
    """Return what two hosts work on, at a hypervisor that has neither a network nor a pool."""
    assert dirs.hosts.is_dir()
    (tmp_path / "node.xml").write_text("<node/>", encoding="utf-8")
    hosts = [samples.host(name, uri="embedded") for name in ("ant", "bee")]
    with Libvirt(f"test://{tmp_path / 'node.xml'}") as connection:
        yield [Work(host, connection, talk()[0], Observed(), Deadline(60)) for host in hosts]


def side_by_side(action: Action, works: list[Work]) -> None:
    """Apply the action for each host in a thread of its own. Raise what one of them raises."""
    with ThreadPoolExecutor() as threads:
        list(threads.map(action.apply, works))


def meet(barrier: Barrier) -> None:
    """Wait a moment for the other host."""
    with suppress(BrokenBarrierError):
        barrier.wait(0.5)


def test_a_new_network_is_made_once(works: list[Work], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hosts that both need a network which does not exist yet get one, and neither fails."""
    looked = Barrier(2)

    class Watched(Network):
        def __init__(self, *words: Any) -> None:
            super().__init__(*words)
            meet(looked)

    monkeypatch.setattr(actions, "Network", Watched)
    side_by_side(Action.NETWORK, works)
    assert all(work.network.active for work in works)


def test_a_new_pool_is_made_once(works: list[Work], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two hosts whose disks are in a folder that is no pool yet get one pool, and neither fails."""
    (tmp_path / "image").touch()
    image, looked, uploaded = (
        images.Image("built", tmp_path / "image", "0" * 64, 0, 0),
        Barrier(2),
        list[str](),
    )

    def watched(*words: Any) -> Pool | None:
        found = find_pool(*words)
        meet(looked)
        return found

    monkeypatch.setattr(actions, "find_pool", watched)
    monkeypatch.setattr(images, "ensure", lambda *_: image)
    # libvirt's test driver can't upload.
    monkeypatch.setattr(Pool, "upload", lambda _pool, name, *_: uploaded.append(name))
    side_by_side(Action.BASE, works)
    assert len(uploaded) == 2
    assert len(works[0].connection.raw.listAllStoragePools()) == 1
