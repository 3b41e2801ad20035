"""What somebody took away or left behind in a real libvirt: folders, disks, pools, networks and trial domains."""

from __future__ import annotations

import io
import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

from swarm.console import Screen, Talk
from swarm.deadline import Deadline
from swarm.errors import Refused
from swarm.hypervisor.domain import Domain, Trial
from swarm.hypervisor.network import Network
from swarm.hypervisor.storage import Pool, find_pool, make_pool
from swarm.vm import desired, store
from swarm.vm.actions import Action, Work
from swarm.vm.destroy import remove, survey
from swarm.vm.difference import make_plan
from swarm.vm.folders import pool_problem
from swarm.vm.observe import observe
from tests import samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.embedded import Embedded
    from swarm.hypervisor.connection import Libvirt
    from swarm.inventory import Host
    from tests.conftest import Dirs

FOLDER = PurePosixPath("/var/lib/libvirt/lost")
BASE = "swarm-base-built-0123456789abcdef-4.qcow2"


@pytest.fixture
def pool(libvirt: Libvirt, embedded: Embedded) -> Iterator[Pool]:
    """A pool of these tests' own."""
    made = make_pool(libvirt, FOLDER)
    yield made
    for domain in Domain.all(libvirt):
        domain.undefine()
    if left := find_pool(libvirt, FOLDER):
        if left.raw.isActive():
            left.raw.destroy()
        left.raw.undefine()
    shutil.rmtree(here(embedded), ignore_errors=True)


@pytest.fixture
def zap(dirs: Dirs, network: Network, tmp_path: Path) -> Host:
    """A host whose disk is in that pool."""
    assert dirs.hosts.is_dir()
    assert network.active
    return samples.host(uri="embedded", source=str(tmp_path), disk_path=str(FOLDER / "zap.qcow2"))


def at(host: Host, libvirt: Libvirt) -> Host:
    """Return the host with the address of the tests' own embedded hypervisor, which is not that of its state folder."""
    return host.model_copy(update={"hypervisor": host.hypervisor.model_copy(update={"uri": libvirt.uri})})


def here(embedded: Embedded, folder: PurePosixPath = FOLDER) -> Path:
    """Return where this machine has a folder of the embedded hypervisor."""
    return embedded.state / "lib" / folder.relative_to("/var/lib/libvirt")


def work(host: Host, libvirt: Libvirt) -> Work:
    """Return a run's state."""
    return Work(host, libvirt, Talk(Screen(), quiet=True), observe(host, libvirt), Deadline(60))


def define(host: Host, libvirt: Libvirt) -> None:
    """Define the host's domain, after its first boot."""
    xml = desired.domain_xml(host, "qemu", None)
    note = desired.Note(host.name, "qemu", "", host.vm.image, disk=str(host.vm.disk_path))
    Domain.define(libvirt, xml).write_note(note.to_xml())


@pytest.mark.parametrize("name", ["x", ".hidden", "folder/"])
def test_a_folder_with_files_is_not_made_a_pool(libvirt: Libvirt, embedded: Embedded, name: str) -> None:
    """What holds anything is refused: its mode and content stay, no pool is left, and the hint makes one by hand."""
    folder = here(embedded)
    folder.mkdir()
    if name.endswith("/"):
        (folder / name).mkdir()
    else:
        (folder / name).write_text("mine")
    folder.chmod(0o1777)
    try:
        with pytest.raises(Refused, match="is no storage pool, and it holds files such as") as caught:
            make_pool(libvirt, FOLDER)
        assert find_pool(libvirt, FOLDER) is None
        assert (folder.stat().st_mode & 0o7777, len(list(folder.iterdir()))) == (0o1777, 1)
        assert f"virsh -c '{libvirt.uri}' pool-define-as lost dir --target {FOLDER}" in f"{caught.value.hint}"
    finally:
        shutil.rmtree(folder)


def test_an_empty_folder_keeps_its_mode_as_a_pool(libvirt: Libvirt, embedded: Embedded) -> None:
    """A folder that is there, such as a new file system, becomes a pool as it is."""
    folder = here(embedded)
    (folder / "lost+found").mkdir(parents=True)
    folder.chmod(0o1770)
    try:
        made = make_pool(libvirt, FOLDER)
        made.raw.destroy()
        made.raw.undefine()
        assert folder.stat().st_mode & 0o7777 == 0o1770
    finally:
        shutil.rmtree(folder)


def test_a_folder_that_cannot_be_made_leaves_no_pool(libvirt: Libvirt, embedded: Embedded) -> None:
    """A failure leaves no definition that would block the next run."""
    file = here(embedded)
    file.write_text("no folder")
    try:
        for folder in (FOLDER, FOLDER / "below"):
            with pytest.raises(Exception, match=f"libvirt cannot use the folder {folder}"):
                make_pool(libvirt, folder)
            assert find_pool(libvirt, folder) is None
        assert file.read_text() == "no folder"
    finally:
        file.unlink()


@pytest.mark.parametrize(
    ("folder", "problem"),
    [
        ("/etc/vms", "/etc/vms is a folder of the system"),
        ("/srv", "/srv is a folder of the system"),
        ("/home/ann", "/home/ann is a home directory"),
        ("{tmp}/files", "{tmp}/files is no storage pool, and it holds files such as 'x'"),
        ("{tmp}/link", "{tmp}/link leads to /usr/lib, a folder of the system"),
        ("{tmp}/home", "{tmp}/home is your home directory"),
        ("{tmp}/empty", ""),
        ("{tmp}/none", ""),
        ("{tmp}/loop", ""),
        ("/home/ann/vms", ""),
    ],
)
def test_the_plan_knows_which_folder_is_no_place_for_disks(
    connection: Libvirt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, problem: str
) -> None:
    """Folders of the system, homes and folders with files are found before anything is made."""
    for name in ("files/x", "empty", "home"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to("/usr/lib")
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    found = pool_problem(PurePosixPath(folder.format(tmp=tmp_path)), connection)
    assert (found[0] if found else "") == problem.format(tmp=tmp_path)
    assert not found or found[1]


def test_a_pool_whose_folder_is_gone_gets_a_new_one(
    libvirt: Libvirt, embedded: Embedded, zap: Host, pool: Pool
) -> None:
    """Plan, images and destroy work as if the pool were empty; provision makes the folder again."""
    here(embedded).rmdir()
    assert not pool.activate()
    assert make_plan(zap, observe(zap, libvirt))
    assert survey(zap, libvirt).kept == ()
    assert store.survey([at(zap, libvirt)], Talk(Screen())).items == ()
    assert work(zap, libvirt).pool.volumes() == []
    assert here(embedded).stat().st_mode & 0o777 == 0o711


def test_a_vm_whose_disks_folder_is_gone_can_be_destroyed(
    libvirt: Libvirt, embedded: Embedded, zap: Host, pool: Pool
) -> None:
    """The plan says that the disk is lost. Destroy removes the rest, and names the file that it could not look for."""
    define(zap, libvirt)
    here(embedded).rmdir()
    with pytest.raises(Refused, match=r"the domain's disk .*zap\.qcow2 does not exist") as caught:
        make_plan(zap, observe(zap, libvirt))
    assert "./inv destroy --host zap" in f"{caught.value.hint}"
    remains = survey(zap, libvirt)
    assert [(kept.path, "does not exist, or is not mounted" in kept.why) for kept in remains.kept] == [
        (str(zap.vm.disk_path), True)
    ]
    remove(zap, libvirt, remains)
    assert Domain.find_by_uuid(libvirt, desired.domain_uuid(zap)) is None
    assert not here(embedded).exists()
    assert pool.raw.isPersistent()


def test_a_vm_whose_disk_is_gone_is_seen_without_its_pool(
    libvirt: Libvirt, embedded: Embedded, zap: Host, pool: Pool
) -> None:
    """The domain itself tells that its disk vanished; a disk that is there is left in peace, and named by destroy."""
    pool.upload("zap.qcow2", io.BytesIO(bytes(1 << 16)), 1 << 16, "raw")
    define(zap, libvirt)
    pool.raw.destroy()
    pool.raw.undefine()
    assert make_plan(zap, observe(zap, libvirt))
    (kept,) = survey(zap, libvirt).kept
    assert (kept.path, kept.why.partition(";")[0]) == (
        str(zap.vm.disk_path),
        "no storage pool has its folder",
    )
    (here(embedded) / "zap.qcow2").unlink()
    with pytest.raises(Refused, match=r"the domain's disk .*zap\.qcow2 does not exist"):
        make_plan(zap, observe(zap, libvirt))


def test_an_image_that_a_vm_uses_by_now_is_kept(libvirt: Libvirt, zap: Host, pool: Pool) -> None:
    """A base image that became a VM's disk after the survey is not deleted."""
    pool.upload(BASE, io.BytesIO(b"QFI\xfb"), 4, "raw")
    (image,) = store.survey([at(zap, libvirt)], Talk(Screen())).items
    assert (image.name, image.users) == (BASE, ())
    libvirt.raw.defineXML(
        f"""<domain type='qemu'><name>bee</name><memory>65536</memory><os><type arch='x86_64'>hvm</type></os><devices>
        <disk type='file' device='disk'><source file='{FOLDER / BASE}'/><target dev='vda'/></disk></devices></domain>"""
    )
    with pytest.raises(Refused, match="is used by the domain 'bee' by now"):
        image.remove()
    assert pool.find(BASE)


def test_a_second_network_has_a_bridge_and_addresses_of_its_own(
    libvirt: Libvirt, zap: Host, dirs: Dirs, tmp_path: Path
) -> None:
    """Another network name in the embedded hypervisor is made beside the first one, and both run."""
    assert dirs.hosts.is_dir()
    lab = samples.host(
        "lab", uri="embedded", source=str(tmp_path), network="lab", ip="192.168.150.9", mac="52:54:00:00:00:99",
        domain="lab", hostname="lab", disk_path=str(FOLDER / "lab.qcow2"),
    )  # fmt: skip
    network = Network(libvirt, "lab")
    try:
        make_plan(lab, observe(lab, libvirt))
        Action.NETWORK.apply(work(lab, libvirt))
        network = Network(libvirt, "lab")
        assert network.active
        assert "192.168.150.1" in network.xml()
        assert Network(libvirt, zap.hypervisor.network).active
        taken = samples.variant(lab, ip="192.168.122.77")
        elsewhere = taken.model_copy(
            update={"hypervisor": lab.hypervisor.model_copy(update={"network": "other"})}
        )
        with pytest.raises(Exception, match=r"192\.168\.122\.77 is an address of the network 'default'"):
            make_plan(elsewhere, observe(elsewhere, libvirt))
    finally:
        Network(libvirt, "lab").remove()


def test_a_trial_that_another_run_left_changes_nothing(libvirt: Libvirt) -> None:
    """Each trial domain has a name of its own: one that is there is no failure, and none of ours stays."""
    system = "<os><type arch='x86_64' machine='q35'>hvm</type></os>"
    other = libvirt.raw.createXML(
        f"<domain type='qemu'><name>swarm-trial</name><memory unit='MiB'>16</memory>{system}</domain>", 1
    )
    try:
        assert Trial.starts(libvirt, "qemu")
        assert [domain.name for domain in Domain.all(libvirt)] == ["swarm-trial"]
    finally:
        other.destroy()
