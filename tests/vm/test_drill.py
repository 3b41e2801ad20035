"""A drill on the hypervisor that also runs the original: one more real boot, cut off before any state is there."""

from __future__ import annotations

import re
import signal
import time
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


@pytest.fixture(scope="module")
def archive(zap: Lab, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An archive of zap."""
    return archived(zap.host(), make_state(tmp_path_factory.mktemp("drill") / "state", odd=True))


def interrupted(zap: Lab, how: signal.Signals) -> tuple[int, str]:
    """Start a drill, send it a signal while its VM boots, and return its exit code and messages."""
    process = zap.start("drill", "--host", "zap", "--files")
    end = time.monotonic() + 300
    while "images/swarm-zap-drill.qcow2" not in zap.files():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.2)
    time.sleep(2)  # the domain starts
    process.send_signal(how)
    _, err = process.communicate(timeout=300)
    zap.running.remove(process)
    return process.returncode, err


def drills(zap: Lab) -> list[str]:
    """Return what is there of a drill: files, domains, networks, reservations, SSH settings, private directories."""
    found = [name for name in zap.files() if "drill" in name]
    found += [path.name for path in (zap.base / "hosts").iterdir() if "drill" in path.name]
    found += [path.name for path in (zap.base / "state/drill").iterdir() if path.name != "lock"]
    found += re.findall("Host zap-drill", (zap.base / "state/ssh/config").read_text())
    with zap.hypervisor() as connection:
        found += [each.name() for each in connection.raw.listAllDomains() if "drill" in each.name()]
        found += [each.name() for each in connection.raw.listAllNetworks() if each.name() != "default"]
        found += [each for each in connection.raw.listNWFilters() if "drill" in each]
        found += re.findall("name='zap-drill'", connection.raw.networkLookupByName("default").XMLDesc())
    return found


def test_interrupted_drill_leaves_nothing(zap: Lab, archive: str) -> None:
    """Ctrl-C while the VM boots removes the VM and all that belongs to it, and the original runs on."""
    assert archive
    code, err = interrupted(zap, signal.SIGINT)
    assert code == 130, err
    assert "Traceback" not in err
    assert drills(zap) == []
    with zap.hypervisor() as connection:
        assert zap.domain(connection).state == "running"


def test_discarding(zap: Lab, archive: str) -> None:
    """--discard removes the VM that a killed drill has left, and says when there is none."""
    assert archive
    interrupted(zap, signal.SIGKILL)
    assert drills(zap) != []
    removed, again = (zap.inv("drill", "--host", "zap", "--discard") for _ in range(2))
    assert (removed.code, "removed the drill's VM" in removed.err) == (0, True), removed.err
    assert drills(zap) == []
    assert (again.code, "nothing to do" in again.err) == (0, True), again.err


def test_drill_of_the_files(zap: Lab, archive: str) -> None:
    """After a killed drill, the next one restores every file and row into a VM that reaches nothing, and cleans up."""
    interrupted(zap, signal.SIGKILL)
    assert drills(zap) != []
    # Without this, the drill's VM would not reach its original before it is cut off either.
    zap.edit("zap", network={"allow": ["192.168.122.182"]})
    ran = zap.inv("drill", "--host", "zap", "--files", "--timeout", "1000")
    zap.edit("zap", network={"allow": []})
    assert ran.code == 0, ran.err + ran.out
    assert "removed what an earlier drill had left" in ran.err
    found = record.load("zap")
    assert (found.drill["result"], found.drill["archive"]) == ("success", archive), ran.err
    checks = {each["name"]: each["text"] for each in found.drill["checks"] if each["ok"]}
    assert list(checks) == ["archive", "isolation", "files", "databases"]
    assert re.search(r"\b192\.168\.122\.182\b.* did before", checks["isolation"])
    assert set(found.archives[archive]["verified"].values()) == {"content"}
    assert drills(zap) == []
    assert "so it is restarted" not in ran.err
