"""Whose disk, reservation and seed it is, against a real libvirt: nothing of another domain is ever touched."""

from __future__ import annotations

import io
import subprocess
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest

from swarm.console import Screen, Talk
from swarm.deadline import Deadline
from swarm.errors import InventoryError, Refused
from swarm.hypervisor.domain import Domain
from swarm.hypervisor.network import Network, Reservation
from swarm.hypervisor.storage import Pool, Volume, find_pool, make_pool
from swarm.vm import desired
from swarm.vm.actions import Action, Work
from swarm.vm.destroy import remove, survey
from swarm.vm.difference import make_plan
from swarm.vm.observe import observe
from swarm.vm.serial import console_log
from swarm.vm.verbs import start_networks
from tests import samples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from swarm.hypervisor.connection import Libvirt
    from swarm.inventory import Host
    from tests.conftest import Dirs

FOLDER = PurePosixPath("/var/lib/libvirt/images")
DISK = "claw.qcow2"
OTHER = """<domain type='qemu'><name>bee</name><memory>65536</memory><os><type arch='x86_64'>hvm</type></os><devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/><target dev='vda'/></disk>
    <interface type='network'><mac address='{mac}'/><source network='default'/></interface></devices></domain>"""


@pytest.fixture
def pool(libvirt: Libvirt) -> Iterator[Pool]:
    """The pool that the host file names, empty again afterwards."""
    made = find_pool(libvirt, FOLDER) or make_pool(libvirt, FOLDER)
    yield made
    for name in ("zap [claw]", "bee"):
        if domain := Domain.find(libvirt, name):
            domain.undefine()
    made.refresh()
    for volume in made.volumes():
        made.delete(volume.name)


@pytest.fixture
def network(libvirt: Libvirt) -> Iterator[Network]:
    """The network that the host file names, running, without reservations afterwards."""
    made = Network(libvirt, "default")
    if not made.exists:
        made.define(desired.network_xml("default"))
    made.activate()
    yield made
    for entry in made.reservations():
        made.release(entry.mac)


@pytest.fixture
def base_volume(pool: Pool, tmp_path: Path) -> Volume:
    """A small qcow2 image in the pool."""
    path = tmp_path / "base.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1G"], check=True)
    return pool.upload("base.qcow2", io.BytesIO(path.read_bytes()), path.stat().st_size, "qcow2")


@pytest.fixture
def zap(dirs: Dirs, tmp_path: Path, network: Network) -> Host:
    """The reference host, in the embedded hypervisor, with a share that exists."""
    assert dirs.hosts.is_dir()
    assert network.active
    return samples.host(uri="embedded", source=str(tmp_path))


def apply(host: Host, libvirt: Libvirt, *actions: Action) -> None:
    """Apply actions as one run would, and end there as if the run were killed."""
    work = Work(host, libvirt, Talk(Screen(), quiet=True), observe(host, libvirt), Deadline(60))
    for action in actions:
        action.apply(work)


def lines(host: Host, libvirt: Libvirt) -> list[str]:
    """Return the pending changes, without those of the base image, which these tests do not have."""
    changes = [change.line() for change in make_plan(host, observe(host, libvirt))]
    return [line for line in changes if not line.startswith(("+ image", "+ base volume"))]


def paths(host: Host, libvirt: Libvirt) -> list[str]:
    """Return the names of the files that a destroy would delete."""
    return sorted(volume.name for _, volume in survey(host, libvirt).volumes)


BEFORE = (Action.RESERVATION, Action.FILTER, Action.HOST_KEY, Action.SEED)


def test_a_run_killed_before_its_domain_leaves_only_what_has_swarms_name(
    libvirt: Libvirt, zap: Host, pool: Pool
) -> None:
    """Before the domain exists there is no disk: only the seed, the reservation and the pin are left."""
    apply(zap, libvirt, *BEFORE)
    assert pool.find(DISK) is None
    assert paths(zap, libvirt) == ["swarm-zap-seed.iso"]
    remove(zap, libvirt, survey(zap, libvirt))
    left = survey(zap, libvirt)
    assert (left.domain, left.volumes, left.reservations, left.pinned) == (None, (), (), False)


def test_a_run_killed_before_its_disk_goes_on_with_it(
    libvirt: Libvirt, zap: Host, pool: Pool, base_volume: Volume
) -> None:
    """The domain records the disk before it is made: the next run makes it, and destroy removes it."""
    apply(zap, libvirt, *BEFORE, Action.DOMAIN, Action.AUTOSTART)
    assert lines(zap, libvirt)[0] == f"+ disk: {zap.vm.disk_path}, 60G"
    pool.overlay(DISK, base_volume, zap.vm.disk_size)
    assert lines(zap, libvirt)[0] == "▸ start"
    assert paths(zap, libvirt) == [DISK, "swarm-zap-seed.iso"]
    remove(zap, libvirt, survey(zap, libvirt))
    pool.refresh()
    assert [volume.name for volume in pool.volumes()] == ["base.qcow2"]
    assert Domain.find(libvirt, zap.vm.domain) is None


@pytest.mark.parametrize("backing", [False, True], ids=["its disk", "its backing file"])
def test_a_disk_of_another_domain_is_never_touched(
    libvirt: Libvirt,
    zap: Host,
    pool: Pool,
    base_volume: Volume,
    backing: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """A disk that another domain uses, itself or behind its own, is refused by the plan and kept by destroy."""
    used = pool.overlay(DISK, base_volume, zap.vm.disk_size)
    top = pool.overlay("top.qcow2", used, zap.vm.disk_size) if backing else used
    libvirt.raw.defineXML(OTHER.format(disk=top.path, mac="52:54:00:00:00:09"))
    with pytest.raises(Refused, match=r"vm\.disk_path: .*claw\.qcow2 is used by the domain 'bee'") as caught:
        lines(zap, libvirt)
    assert "destroy" not in f"{caught.value.hint}"
    remains = survey(zap, libvirt)
    assert [(kept.path, kept.why) for kept in remains.kept] == [(used.path, "the domain 'bee' uses it")]
    remove(zap, libvirt, remains)
    pool.refresh()
    assert pool.find(DISK)


def test_a_disk_that_another_domain_takes_meanwhile_is_kept(
    libvirt: Libvirt, zap: Host, pool: Pool, base_volume: Volume
) -> None:
    """A domain that takes the disk while the user is asked is not harmed: nothing at all is removed."""
    apply(zap, libvirt, Action.HOST_KEY, Action.SEED, Action.DOMAIN)
    pool.overlay(DISK, base_volume, 2 << 30)
    remains = survey(zap, libvirt)
    assert "disk" in [label for label, _ in remains.volumes]
    Domain.define(libvirt, OTHER.format(disk=FOLDER / DISK, mac="52:54:00:00:00:09"))
    with pytest.raises(Refused, match="is used by the domain 'bee' by now"):
        remove(zap, libvirt, remains)
    pool.refresh()
    assert pool.find(DISK) is not None
    assert Domain.find(libvirt, zap.vm.domain) is not None


def test_a_disk_that_nothing_records_is_kept(
    libvirt: Libvirt, zap: Host, pool: Pool, base_volume: Volume
) -> None:
    """A file at disk_path that no domain of the host records is neither replaced nor deleted."""
    pool.overlay(DISK, base_volume, zap.vm.disk_size)
    with pytest.raises(Refused, match=r"already exists .* and no domain of this host records it"):
        lines(zap, libvirt)
    remains = survey(zap, libvirt)
    assert (remains.volumes, len(remains.kept)) == ((), 1)


def test_a_changed_host_file_does_not_change_what_destroy_removes(
    libvirt: Libvirt, zap: Host, pool: Pool, base_volume: Volume
) -> None:
    """A removal goes by the domain: its disk and its reservation go, and the disk that the file names now stays."""
    apply(zap, libvirt, *BEFORE, Action.DOMAIN)
    pool.overlay(DISK, base_volume, zap.vm.disk_size)
    pool.overlay("other.qcow2", base_volume, zap.vm.disk_size)
    other = samples.variant(zap, disk_path=str(FOLDER / "other.qcow2"), mac="52:54:00:01:00:72")
    remains = survey(other, libvirt)
    assert [volume.name for label, volume in remains.volumes if label == "disk"] == [DISK]
    assert [(entry.mac, entry.ip) for entry in remains.reservations] == [(zap.vm.mac, str(zap.vm.ip))]
    remove(other, libvirt, remains)
    pool.refresh()
    assert sorted(volume.name for volume in pool.volumes()) == ["base.qcow2", "other.qcow2"]
    assert Network(libvirt, "default").reservations() == []


@pytest.mark.usefixtures("pool")
def test_a_changed_network_leaves_no_reservation_in_the_old_one(
    libvirt: Libvirt, zap: Host, network: Network
) -> None:
    """Destroy finds the reservation in the network that the domain has, whatever the host file names now."""
    apply(zap, libvirt, *BEFORE, Action.DOMAIN)
    assert [entry.mac for entry in network.reservations()] == [zap.vm.mac]
    other = zap.model_copy(update={"hypervisor": zap.hypervisor.model_copy(update={"network": "gone"})})
    remove(other, libvirt, survey(other, libvirt))
    assert network.reservations() == []


@pytest.mark.usefixtures("pool")
def test_the_networks_that_a_vm_has_are_started(libvirt: Libvirt, zap: Host, network: Network) -> None:
    """Before a start the domain's own network is made to run, whatever the host file names now."""
    apply(zap, libvirt, *BEFORE, Action.DOMAIN)
    network.raw.destroy()
    other = zap.model_copy(update={"hypervisor": zap.hypervisor.model_copy(update={"network": "gone"})})
    start_networks(other, libvirt)
    assert network.active


def test_the_console_log_is_where_the_domain_writes_it(libvirt: Libvirt, zap: Host, pool: Pool) -> None:
    """A changed disk_path in the host file does not hide the log of the VM that is there."""
    apply(zap, libvirt, *BEFORE, Action.DOMAIN)
    pool.upload(desired.console_volume(zap), io.BytesIO(b"Booting\n"), 8, "raw")
    assert console_log(samples.variant(zap, disk_path="/srv/elsewhere/x.qcow2"), libvirt) == ["Booting"]


def test_a_mac_of_another_domain_keeps_its_reservation(libvirt: Libvirt, zap: Host, pool: Pool) -> None:
    """A copied MAC address is refused by the plan, and destroy does not release the other domain's reservation."""
    libvirt.raw.defineXML(OTHER.format(disk=FOLDER / "bee.qcow2", mac=zap.vm.mac))
    Network(libvirt, "default").reserve(zap.vm.mac, str(zap.vm.ip), "bee")
    assert pool.find("bee.qcow2") is None
    with pytest.raises(Refused, match="is already the address of the domain 'bee'"):
        lines(zap, libvirt)
    assert survey(zap, libvirt).reservations == ()


def test_a_changed_mac_moves_the_reservation(
    libvirt: Libvirt, zap: Host, pool: Pool, base_volume: Volume
) -> None:
    """After a change of vm.mac the old reservation is gone, in both definitions, and the address has the new MAC."""
    apply(zap, libvirt, *BEFORE, Action.DOMAIN, Action.AUTOSTART)
    pool.overlay(DISK, base_volume, zap.vm.disk_size)
    other = samples.variant(zap, mac="52:54:00:01:00:72")
    plan = make_plan(other, observe(other, libvirt))
    apply(
        other, libvirt, *[each for each in Action.of(plan) if each not in {Action.START, Action.FIRST_BOOT}]
    )
    wanted = Reservation("52:54:00:01:00:72", str(zap.vm.ip), zap.vm.hostname)
    assert Network(libvirt, "default").reservations() == [wanted]
    assert lines(other, libvirt)[0] == "▸ start"


@pytest.mark.slow
def test_two_vms_swap_their_addresses_by_way_of_a_free_one(
    libvirt: Libvirt, zap: Host, pool: Pool, network: Network
) -> None:
    """The plan refuses the direct way and names the detour, which then works."""
    libvirt.raw.defineXML(OTHER.format(disk=FOLDER / "bee.qcow2", mac="52:54:00:00:00:09"))
    network.reserve("52:54:00:00:00:09", "192.168.122.9", "bee")
    apply(zap, libvirt, *BEFORE, Action.DOMAIN)
    old, free = str(zap.vm.ip), "192.168.122.2"
    swapped, between = samples.variant(zap, ip="192.168.122.9"), samples.variant(zap, ip=free)
    with pytest.raises(
        InventoryError, match=r"192\.168\.122\.9 is reserved for .*by the domain 'bee'"
    ) as caught:
        lines(swapped, libvirt)
    assert f"write vm.ip: {free} here" in f"{caught.value.hint}"
    assert f"~ reservation: {old} → {free} for {zap.vm.mac}" in lines(between, libvirt)
    apply(between, libvirt, Action.RESERVATION)
    network.reserve("52:54:00:00:00:09", old, "bee")
    apply(swapped, libvirt, Action.RESERVATION)
    assert {entry.mac: entry.ip for entry in network.reservations()} == {
        "52:54:00:00:00:09": old, zap.vm.mac: "192.168.122.9",
    }  # fmt: skip
    assert pool.raw.isActive()


def test_a_name_of_another_reservation_is_refused(libvirt: Libvirt, zap: Host, network: Network) -> None:
    """A host name of another reservation is refused by plan and action, and both definitions stay unchanged."""
    network.reserve("52:54:00:00:00:09", "192.168.122.9", zap.vm.hostname)
    with pytest.raises(
        InventoryError, match=r"vm\.hostname: zap is already in a reservation of the network default"
    ):
        lines(zap, libvirt)
    raw = libvirt.raw.networkLookupByName("default")
    before = raw.XMLDesc(0), raw.XMLDesc(1)
    with pytest.raises(Refused):
        apply(zap, libvirt, Action.RESERVATION)
    assert (raw.XMLDesc(0), raw.XMLDesc(1)) == before
