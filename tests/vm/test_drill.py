"""A drill on the hypervisor that also runs the original: one more real boot, cut off before any state is there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from swarm.backup import record
from swarm.backup.manifest import Manifest
from swarm.backup.owners import Owners
from swarm.backup.repository import open_destinations
from swarm.backup.store import Place, free_name, store
from tests.state import DATABASE, make_state

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.backup.archive import Packed
    from swarm.inventory import Host
    from tests.vm.lab import Lab

pytestmark = pytest.mark.slow

DATABASES = {DATABASE: {"transcript": 50, "sessions": 0}, "state/openclaw.sqlite": {"transcript": 3}}


def archived(host: Host, tree: Path) -> str:
    """Archive a tree at the host's first destination. Return the archive's name."""
    place = Place(open_destinations(host.name, host.backup)[0])
    name = free_name(host.name, [place], datetime.now(UTC), encrypted=False)

    def describe(packed: Packed) -> Manifest:
        created = name.created.isoformat()
        return Manifest(host.name, created, "openclaw", packed.entries, DATABASES)

    store(name, tree, Owners("openclaw", "openclaw", {}), [place], host.backup, describe)
    assert place.error is None
    return str(name)


def test_drill_of_the_files(zap: Lab, tmp_path: Path) -> None:
    """Every file and row arrives in a VM that reaches nothing, not even its original, and the VM is gone afterwards."""
    archive = archived(zap.host(), make_state(tmp_path / "state", odd=True))
    before, hosts = sorted(zap.files()), sorted((zap.base / "hosts").iterdir())
    ran = zap.inv("drill", "--host", "zap", "--files", "--json", "--timeout", "1000")
    assert ran.code == 0, ran.err + ran.out
    report = ran.data[0]
    assert (report["archive"], report["result"]) == (archive, "success")
    checks = {each["name"]: each["text"] for each in report["checks"] if each["ok"]}
    assert list(checks) == ["archive", "isolation", "files", "databases"]
    assert "192.168.122.182 did before" in checks["isolation"]
    assert sorted(zap.files()) == before
    assert sorted((zap.base / "hosts").iterdir()) == hosts
    assert "zap-drill" not in (zap.base / "state/ssh/config").read_text()
    assert [path.name for path in (zap.base / "state/drill").iterdir()] == ["lock"]
    with zap.hypervisor() as connection:
        assert [each.name() for each in connection.raw.listAllDomains()] == ["zap [claw]"]
        assert [each.name() for each in connection.raw.listAllNetworks()] == ["default"]
        assert connection.raw.networkLookupByName("default").XMLDesc().count("<host mac=") == 1
    found = record.load("zap")
    assert (found.drill["result"], found.drill["archive"]) == ("success", archive)
    assert set(found.archives[archive]["verified"].values()) == {"content"}
