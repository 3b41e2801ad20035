"""Domains and networks against libvirt's own test driver: real parsing, real states, real error codes, but no QEMU."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import libvirt
import pytest

from swarm.errors import HypervisorError, Unfit
from swarm.fleet.claims import claimed
from swarm.hypervisor.domain import Domain
from swarm.hypervisor.network import Network, subnets
from swarm.hypervisor.usage import usage
from swarm.vm import desired, shape
from swarm.vm.desired import Note
from swarm.vm.destroy import remove, survey
from swarm.vm.difference import changes
from swarm.vm.observe import acceleration, observe
from tests import samples

if TYPE_CHECKING:
    from collections.abc import Callable

    from swarm.hypervisor.connection import Libvirt
    from swarm.inventory import Host
    from tests.conftest import Dirs

MAC = "52:54:00:01:00:71"
KEY = "ssh-ed25519 AAAAkey"


@pytest.fixture
def zap(dirs: Dirs) -> Host:
    """The reference host, in a network that does not exist: the test driver has no leases."""
    assert dirs.hosts.is_dir()
    return samples.host()


def define(connection: Libvirt, host: Host, seed: str | None = None) -> Domain:
    """Define the host's domain and record the definition, as a provision does."""
    xml = desired.domain_xml(host, "qemu", seed)
    note = Note(host.name, "qemu", KEY, host.vm.image)
    definition = xml.replace("</title>", f"</title><metadata>{note.to_xml(namespace=True)}</metadata>", 1)
    domain = Domain.define(connection, definition)
    domain.write_note(replace(note, spec=shape.hashes(xml), have=shape.hashes(domain.xml())).to_xml())
    domain.autostart = host.vm.autostart
    return domain


def plan(connection: Libvirt, host: Host) -> list[str]:
    """Return the pending changes of the domain itself."""
    lines = [change.line() for change in changes(host, observe(host, connection))]
    return [line for line in lines if not re.match(r"\+ (network|reservation|host key)|▸", line)]


def test_what_is_defined_is_found(connection: Libvirt, zap: Host) -> None:
    """A domain is found by name and by UUID. A missing one is None, not an error."""
    assert (
        Domain.find(connection, "zap [claw]"),
        Domain.find_by_uuid(connection, desired.domain_uuid(zap)),
        Domain.all(connection),
    ) == (
        None,
        None,
        [],
    )
    made = define(connection, zap)
    assert (made.name, made.uuid) == ("zap [claw]", desired.domain_uuid(zap))
    for found in (
        Domain.find(connection, "zap [claw]"),
        Domain.find_by_uuid(connection, made.uuid),
        *Domain.all(connection),
    ):
        assert found
        assert (found.name, found.uuid, found.state, found.autostart) == (
            made.name,
            made.uuid,
            "stopped",
            True,
        )


def test_what_was_defined_is_not_changed_again(connection: Libvirt, zap: Host) -> None:
    """Elements that libvirt adds or reorders count as unchanged, with or without a seed."""
    define(connection, zap)
    assert plan(connection, zap) == []
    define(connection, zap, "/pool/seed.iso")
    assert plan(connection, zap) == []


def test_the_note_survives_in_libvirt(connection: Libvirt, zap: Host) -> None:
    """Swarm's record in a domain's metadata is read back unchanged, special characters too."""
    domain = define(connection, zap)
    odd = Note("zap", "qemu", "key <&>'\" é🦞", "image", {"a[b]": "1"}, {"c'": '2"'})
    domain.write_note(odd.to_xml())
    again = domain.note()
    assert again
    assert Note.from_xml(again) == odd


def test_a_domain_of_another_maker_has_no_note(connection: Libvirt, zap: Host) -> None:
    """A missing record is no error, and a domain of that name with another UUID is a namesake."""
    other = desired.domain_xml(zap, "qemu", None).replace(
        desired.domain_uuid(zap), "11111111-2222-3333-4444-555555555555"
    )
    assert Domain.define(connection, other).note() is None
    seen = observe(zap, connection)
    assert (seen.domain, seen.namesake, seen.namesake_host) == (
        None,
        "11111111-2222-3333-4444-555555555555",
        "",
    )
    assert (seen.macs, seen.taken) == ({MAC: "zap [claw]"}, {str(zap.vm.disk_path): "zap [claw]"})


def transient(connection: Libvirt, host: Host) -> Domain:
    """Define the host's domain, start it, and undefine it while it runs, as virsh can."""
    domain = define(connection, host)
    domain.start()
    domain.raw.undefine()
    return domain


def test_a_vm_that_was_undefined_while_it_runs(connection: Libvirt, zap: Host) -> None:
    """A VM that runs without a stored definition is defined again by the plan, and can be destroyed."""
    transient(connection, zap)
    missing = "defined again, since the record of swarm's definition is missing"
    assert plan(connection, zap) == [f"~ metadata: {missing}"]
    remove(zap, connection, survey(zap, connection))
    assert Domain.all(connection) == []


def test_domains_and_networks_that_come_and_go(connection: Libvirt, zap: Host) -> None:
    """Others' domains without a stored definition, and what is removed while it is listed, are passed over."""
    transient(connection, zap)
    assert claimed(connection) == []
    (domain,) = Domain.all(connection)
    domain.power_off()
    assert (domain.note(), domain.note(live=True)) == (None, None)
    Network(connection, "lab").create(desired.network_xml("lab"))
    gone = connection.raw.listAllNetworks()
    Network(connection, "lab").remove()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection.raw, "listAllNetworks", lambda: gone)
        assert subnets(connection) == {}


BACK = "(changed outside swarm; put back)"
CONFIG = libvirt.VIR_DOMAIN_AFFECT_CONFIG
TITLE = libvirt.VIR_DOMAIN_METADATA_TITLE
EDITS: list[tuple[str, Callable[[libvirt.virDomain], object], list[str]]] = [
    (
        "virsh setvcpus --config",
        lambda raw: raw.setVcpusFlags(1, CONFIG),
        [f"~ vCPUs: current 1 → no current {BACK}"],
    ),
    (
        "virsh setmem --config",
        lambda raw: raw.setMemoryFlags(524288, CONFIG),
        [f"~ currentMemory: 512 MiB → as swarm defined it {BACK}"],
    ),
    ("virsh autostart --disable", lambda raw: raw.setAutostart(0), ["~ autostart: off → on"]),
    (
        "virsh desc",
        lambda raw: raw.setMetadata(TITLE, "mine", None, None, CONFIG),
        [f"~ title: mine → swarm: zap {BACK}"],
    ),
]


@pytest.mark.parametrize(("edit", "lines"), [edit[1:] for edit in EDITS], ids=[edit[0] for edit in EDITS])
def test_what_virsh_changes_is_drift(
    connection: Libvirt, zap: Host, edit: Callable[[libvirt.virDomain], object], lines: list[str]
) -> None:
    """Each change made with virsh is named, and reverted when the domain is defined again."""
    define(connection, zap)
    edit(connection.raw.lookupByName("zap [claw]"))
    assert plan(connection, zap) == lines
    define(connection, zap)
    assert plan(connection, zap) == []


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("<vcpu placement='static'>2</vcpu>", "<vcpu placement='static'>4</vcpu>", "~ vCPUs: 4 → 2"),
        (
            "bus='virtio'/>\n      <boot order='1'/>",
            "bus='virtio'/>\n      <boot order='3'/>",
            "~ drive vda: boot order 3 → boot order 1",
        ),
        (
            "<feature enabled='yes' name='enrolled-keys'/>",
            "<feature enabled='no' name='enrolled-keys'/>",
            "~ firmware: firmware feature enrolled-keys enabled no → firmware feature enrolled-keys enabled yes",
        ),
        (
            "<memballoon model='virtio'/>",
            "<memballoon model='none'/>",
            "~ memballoon none: model none → as swarm defined it",
        ),
    ],
)
def test_what_virsh_edit_changes_is_drift(
    connection: Libvirt, zap: Host, old: str, new: str, line: str
) -> None:
    """A definition that was edited by hand is described by the leaf that differs."""
    text = define(connection, zap).xml()
    assert text.count(old) == 1, text
    connection.raw.defineXML(text.replace(old, new))
    assert f"{line} {BACK}" in plan(connection, zap)


def test_a_changed_host_file_is_an_update(connection: Libvirt, zap: Host) -> None:
    """A change in the host file is an update. Defining the domain applies it and keeps autostart."""
    define(connection, zap)
    more = samples.variant(zap, memory_mib=4096, vcpus=4)
    assert plan(connection, more) == ["~ memory: 3072 MiB → 4096 MiB", "~ vCPUs: 2 → 4"]
    assert define(connection, more).autostart
    assert plan(connection, more) == []


def test_a_lost_note_is_one_line(connection: Libvirt, zap: Host) -> None:
    """`virsh define` without metadata drops the record. One line says that the domain is defined again."""
    define(connection, zap)
    connection.raw.defineXML(desired.domain_xml(zap, "qemu", None))
    assert plan(connection, zap) == [
        "~ metadata: defined again, since the record of swarm's definition is missing"
    ]


def test_a_domain_goes_through_its_states(connection: Libvirt, zap: Host) -> None:
    """Starting a paused VM resumes it, and powering off twice is no error."""
    domain = define(connection, zap)
    assert (domain.state, domain.active) == ("stopped", False)
    domain.start()
    assert (domain.state, domain.active) == ("running", True)
    connection.raw.lookupByName("zap [claw]").suspend()
    assert (domain.state, domain.active) == ("paused", True)
    domain.start()
    assert domain.state == "running"
    domain.power_off()
    domain.power_off()
    assert domain.state == "stopped"
    assert domain.shutdown(0)
    domain.undefine()
    assert Domain.find(connection, "zap [claw]") is None


def test_a_guest_that_does_not_power_off_is_not_forced(connection: Libvirt, zap: Host) -> None:
    """A shutdown request has a time limit. After it, the VM is reported as running and is not powered off."""
    domain = define(connection, zap)
    domain.start()
    assert domain.shutdown(0) is False
    assert domain.state == "running"


def test_a_name_that_is_taken_is_a_sentence(connection: Libvirt, zap: Host) -> None:
    """Libvirt's refusal of a second domain of the same name becomes a readable error."""
    define(connection, zap)
    other = desired.domain_xml(zap, "qemu", None).replace(
        desired.domain_uuid(zap), "11111111-2222-3333-4444-555555555555"
    )
    with pytest.raises(HypervisorError, match=r"defining the VM failed: .*already exists") as caught:
        Domain.define(connection, other)
    assert caught.value.hint


def test_a_hypervisor_without_kvm_emulates(connection: Libvirt, zap: Host) -> None:
    """Without KVM, the domain is emulated unless the host file requires KVM."""
    assert acceleration(zap, connection) == "qemu"
    with pytest.raises(Unfit, match="this hypervisor cannot run KVM domains"):
        acceleration(samples.host("kvm", network="default\n  acceleration: kvm"), connection)


def test_a_renamed_host_file_is_told_whose_domain_it_is(connection: Libvirt, zap: Host) -> None:
    """A domain that swarm made for a host of another name is known as such, from its own record."""
    define(connection, zap)
    seen = observe(samples.variant(zap, name="renamed"), connection)
    assert (seen.domain, seen.namesake, seen.namesake_host) == (None, desired.domain_uuid(zap), "zap")


def second(connection: Libvirt, name: str, disk: str) -> None:
    """Define a domain that swarm did not create, with the given disk."""
    xml = f"""<domain type='test'><name>{name}</name><memory>1024</memory><os><type>hvm</type></os><devices>
        <disk type='file'><source file='{disk}'/><target dev='vda'/></disk>
        <disk type='volume'><source pool='store' volume='iso'/><target dev='vdb'/></disk>
        </devices></domain>"""
    connection.raw.defineXML(xml)


def test_what_other_domains_use_is_found(connection: Libvirt, zap: Host) -> None:
    """Disks and MACs of all other domains are collected, including backing files and volumes by name."""
    store = "<pool type='dir'><name>store</name><target><path>/store</path></target></pool>"
    pool = connection.raw.storagePoolCreateXML(store)
    for name, backing in (("base", ""), ("over", "<backingStore><path>/store/base</path></backingStore>")):
        pool.createXML(f"<volume><name>{name}</name><capacity>1000</capacity>{backing}</volume>")
    define(connection, zap)
    second(connection, "bee", "/store//over")
    used = usage(connection, besides=desired.domain_uuid(zap))
    assert used.disks == {"/store/over": "bee", "/store/base": "bee", "/store/iso": "bee"}
    assert used.macs == {}
    assert used.of(["/store/../store/base", "/other"]) == {"/store/../store/base": "bee"}
    assert usage(connection).macs == {MAC: "zap [claw]"}
