"""From a host file and what was observed to the lines of a plan, or to a refusal."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from swarm.errors import InventoryError, Refused, SwarmError, Unfit
from swarm.hypervisor.network import Reservation
from swarm.hypervisor.storage import Volume
from swarm.inventory import GIB, Host, NetworkFacts
from swarm.vm import desired, shape
from swarm.vm.desired import Note
from swarm.vm.difference import changes, make_plan, pending, refuse
from swarm.vm.observe import DomainFacts, Observed, StaleReservation
from tests import samples

if TYPE_CHECKING:
    from tests.conftest import Dirs

DISK = "/var/lib/libvirt/images/claw.qcow2"
KEY = "ssh-ed25519 AAAAkey"
NETWORK = NetworkFacts(
    name="default",
    subnet=IPv4Network("192.168.122.0/24"),
    gateway=IPv4Address("192.168.122.1"),
    dynamic_range=(IPv4Address("192.168.122.2"), IPv4Address("192.168.122.254")),
    reservations={"52:54:00:01:00:71": IPv4Address("192.168.122.182")},
)


@pytest.fixture
def zap(dirs: Dirs) -> Host:
    """The reference host, read from a hosts folder of the test's own."""
    assert dirs.hosts.is_dir()
    return samples.host()


def volume(name: str = "claw.qcow2", capacity: int = 60 * GIB, physical: int = 5 * GIB) -> Volume:
    """Return a volume of the pool."""
    return Volume(name, f"/var/lib/libvirt/images/{name}", capacity, physical, physical)


def domain(host: Host, *, seed: bool = False, **fields: Any) -> DomainFacts:
    """Return the host's domain as it is after a provision, running, with `fields` changed."""
    path = f"/var/lib/libvirt/images/{desired.seed_volume(host)}"
    xml = desired.domain_xml(host, "qemu", path if seed else None)
    note = Note(host.name, "qemu", KEY, host.vm.image, shape.hashes(xml), shape.hashes(xml))
    facts = DomainFacts(
        host.vm.domain, desired.domain_uuid(host), "running", host.vm.autostart, xml, xml, note, note
    )
    return replace(facts, **fields)


def observed(host: Host, **fields: Any) -> Observed:
    """Return what is observed after a provision, with `fields` changed."""
    made = Observed(
        domain=domain(host),
        network=NETWORK,
        network_active=True,
        reserved=True,
        pool="images",
        disk=volume(),
        pinned=KEY,
    )
    return replace(made, **fields)


def nothing(**fields: Any) -> Observed:
    """Return what is observed before a first provision, with `fields` changed."""
    return replace(Observed(network=replace(NETWORK, reservations={}), network_active=True), **fields)


def lines(host: Host, seen: Observed, *, restart: bool = False) -> list[str]:
    """Return the plan as people see it."""
    return [change.line() for change in changes(host, seen, restart=restart)]


CREATED = [
    "+ image: ubuntu-24.04",
    "+ base volume: uploaded into the hypervisor's pool",
    "+ reservation: 192.168.122.182 for 52:54:00:01:00:71",
    "+ host key: made here and pinned before the first boot",
    "+ seed: host key, users and network for the first boot",
    "+ domain: zap [claw]: 3072 MiB, 2 vCPUs, Secure Boot, TPM 2.0, emulation",
    "+ disk: /var/lib/libvirt/images/claw.qcow2, 60G",
    "~ autostart: off → on",
    "▸ start",
    "▸ first boot: wait until the guest is ready, then eject and delete the seed",
]


def created(**instead: str | None) -> list[str]:
    """Return the lines of a first provision. A keyword replaces the line of that subject, or with None removes it."""
    keyed = {line[2:].partition(":")[0].replace(" ", "_"): line for line in CREATED}
    return [line for line in (keyed | instead).values() if line]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, created()),
        ({"image_cached": True}, created(image=None)),
        ({"base": volume("base")}, created(image=None, base_volume=None)),
        (
            {"kind": "kvm"},
            created(domain="+ domain: zap [claw]: 3072 MiB, 2 vCPUs, Secure Boot, TPM 2.0, KVM"),
        ),
        ({"reserved": True}, created(reservation=None)),
        ({"network": None, "network_active": False}, [*CREATED[:2], "+ network: default", *CREATED[2:]]),
        ({"network_active": False}, [*CREATED[:2], "~ network: stopped → running", *CREATED[2:]]),
        (
            {"network": replace(NETWORK, reservations={"52:54:00:01:00:71": IPv4Address("192.168.122.9")})},
            created(reservation="~ reservation: 192.168.122.9 → 192.168.122.182 for 52:54:00:01:00:71"),
        ),
    ],
)
def test_a_first_provision(zap: Host, fields: dict[str, Any], expected: list[str]) -> None:
    """What exists is not made again, and what differs is shown with its present value."""
    assert lines(zap, nothing(**fields)) == expected


def test_no_autostart_is_no_change_for_a_new_domain(zap: Host) -> None:
    """A domain that is not to start by itself needs no step for that, since libvirt defines it so."""
    assert lines(samples.variant(zap, autostart=False), nothing()) == created(autostart=None)


SECOND = "takes effect at the next start; --restart does it now"
FIRST_BOOT = "▸ first boot: wait until the guest is ready, then eject and delete the seed"
SOURCE = Path("~/lab/swarm").expanduser()
SHARE = f"type mount, accessmode passthrough, driver type virtiofs, source dir {SOURCE}, target dir swarm"
CARD = "source network default, model type virtio"
START = ["▸ start", "▸ boot: wait until the guest is ready"]


@pytest.mark.parametrize(
    ("vm", "fields", "facts", "expected"),
    [
        ({}, {}, {}, []),
        ({"memory_mib": 4096}, {}, {}, [f"~ memory: 3072 MiB → 4096 MiB ({SECOND})"]),
        ({"memory_mib": 4096}, {}, {"state": "stopped"}, ["~ memory: 3072 MiB → 4096 MiB", *START]),
        ({"vcpus": 4}, {}, {"state": "paused"}, [f"~ vCPUs: 2 → 4 ({SECOND})", "▸ start"]),
        ({"virtiofs": None}, {}, {}, [f"~ share swarm: {SHARE} ({SECOND})"]),
        ({"mac": "52:54:00:01:00:72"}, {"reserved": False}, {}, [
            "+ reservation: 192.168.122.182 for 52:54:00:01:00:72",
            f"~ network interface 52:54:00:01:00:72: type network, mac address 52:54:00:01:00:72, {CARD} ({SECOND})",
            f"~ network interface 52:54:00:01:00:71: type network, mac address 52:54:00:01:00:71, {CARD} ({SECOND})",
        ]),
        ({"autostart": False}, {}, {}, ["~ autostart: on → off"]),
        ({"disk_size": "80G"}, {}, {}, ["~ disk: 60G → 80G (the guest grows its file system at its next start)"]),
        ({"ip": "192.168.122.183"}, {"reserved": False}, {}, [
            "~ reservation: 192.168.122.182 → 192.168.122.183 for 52:54:00:01:00:71",
        ]),
        ({}, {"pinned": None}, {}, ["+ host key: pinned again, as the domain's metadata records it"]),
        ({}, {"network_active": False}, {"state": "stopped"}, ["~ network: stopped → running", *START]),
        ({}, {"seed": volume("swarm-zap-seed.iso")}, {}, ["- seed: left by an interrupted run"]),
        ({}, {}, {"state": "stopped"}, START),
    ],
)  # fmt: skip
def test_a_later_provision(
    zap: Host, vm: dict[str, Any], fields: dict[str, Any], facts: dict[str, Any], expected: list[str]
) -> None:
    """Each changed setting and each missing thing is one line of the plan, and there are no others."""
    vm_now = domain(zap, **facts)
    assert lines(samples.variant(zap, **vm), observed(zap, domain=vm_now, **fields)) == expected


def test_drift_is_put_back(zap: Host) -> None:
    """What was changed with virsh is shown as changed outside swarm, and put back."""
    edited = (
        domain(zap).xml.replace("<vcpu>2</vcpu>", "<vcpu>7</vcpu>").replace('action="reset"', 'action="none"')
    )
    assert lines(zap, observed(zap, domain=domain(zap, xml=edited))) == [
        "~ vCPUs: 7 → 2 (changed outside swarm; put back)",
        "~ watchdog i6300esb: action none → action reset (changed outside swarm; put back)",
    ]


def test_devices_that_came_and_went_are_drift(zap: Host) -> None:
    """An added device is described by what it is, a removed one by what it was."""
    edited = domain(zap).xml.replace('<memballoon model="virtio"/>', '<sound model="ich9"/>')
    assert lines(zap, observed(zap, domain=domain(zap, xml=edited))) == [
        "~ sound ich9: model ich9 → as swarm defined it (changed outside swarm; put back)",
        "~ memballoon virtio: removed → model virtio (changed outside swarm; put back)",
    ]


def test_restart_brings_what_waits(zap: Host) -> None:
    """With --restart, a VM is restarted if its definition has changed, and only then."""
    more = samples.variant(zap, memory_mib=4096)
    assert lines(more, observed(zap), restart=True) == ["~ memory: 3072 MiB → 4096 MiB", "▸ restart"]
    old = domain(zap)
    assert old.live_note
    waiting = replace(old, live_note=replace(old.live_note, spec=old.live_note.spec | {"memory": "other"}))
    assert lines(zap, observed(zap, domain=waiting), restart=True) == ["▸ restart: memory"]
    assert lines(zap, observed(zap), restart=True) == []


def test_autostart_alone_restarts_nothing(zap: Host) -> None:
    """What takes effect at once is no reason to restart a VM."""
    assert lines(samples.variant(zap, autostart=False), observed(zap), restart=True) == [
        "~ autostart: on → off"
    ]


def test_what_waits_for_the_next_start(zap: Host) -> None:
    """Parts that changed since the VM was started are listed, except the seed, which was ejected live."""
    facts = domain(zap)
    assert facts.note
    old = facts.note.spec | {"vcpu": "old", "devices/disk[vdb]": "seed", "devices/filesystem[other]": "gone"}
    waiting = replace(facts, live_note=replace(facts.note, spec=old))
    assert pending(waiting) == ["vCPUs", "share other"]
    assert pending(facts) == []
    assert pending(replace(waiting, live_note=None)) == []


def test_an_unfinished_first_boot_goes_on(zap: Host) -> None:
    """A domain that still has its seed was never ready, so the plan waits for the first boot again."""
    facts = domain(zap, seed=True)
    assert lines(zap, observed(zap, domain=facts, seed=volume("swarm-zap-seed.iso"))) == [FIRST_BOOT]
    stopped = replace(facts, state="stopped", live_xml=None, live_note=None)
    assert lines(zap, observed(zap, domain=stopped)) == ["▸ start", FIRST_BOOT]


@pytest.mark.parametrize("noted", [True, False], ids=["no hashes noted", "no note at all"])
def test_a_definition_without_its_hashes_is_defined_again(zap: Host, noted: bool) -> None:  # noqa: FBT001
    """Without hashes there is nothing to compare with: one line says so, not one for each part."""
    facts = domain(zap)
    bare = Note("zap", "qemu", KEY, zap.vm.image) if noted else None
    assert lines(zap, observed(zap, domain=replace(facts, note=bare))) == [
        "~ metadata: defined again, since the record of swarm's definition is missing"
    ]


def complaint(host: Host, seen: Observed) -> SwarmError:
    """Return the refusal."""
    with pytest.raises(SwarmError) as caught:
        refuse(host, seen)
    return caught.value


IN_USE = "is already in a reservation of the network default:"
REFUSALS: list[tuple[dict[str, Any], type[SwarmError], str, str]] = [
    (
        {"namesake": "0b2f"},
        Refused,
        "hosts/zap.yaml:7: vm.domain: the hypervisor already has a domain 'zap [claw]', which swarm did not make",
        "give this host another vm.domain, or remove that one by hand (virsh undefine --nvram --tpm)",
    ),
    (
        {"macs": {"52:54:00:01:00:71": "bee"}},
        Refused,
        "hosts/zap.yaml:14: vm.mac: 52:54:00:01:00:71 is already the address of the domain 'bee'",
        "give this host a MAC address of its own",
    ),
    (
        {"disk": volume(), "taken": {DISK: "bee"}},
        Refused,
        f"hosts/zap.yaml:12: vm.disk_path: {DISK} is used by the domain 'bee'",
        "give this host a disk_path of its own",
    ),
    (
        {"disk": volume(physical=200_000)},
        Refused,
        f"hosts/zap.yaml:12: vm.disk_path: {DISK} already exists (200.0 kB), and no domain of this host records it",
        "move it away, or delete it by hand if you are sure that it is not needed",
    ),
    (
        {"reservations": (Reservation("52:54:00:00:00:09", "192.168.122.9", "zap"),)},
        InventoryError,
        f'hosts/zap.yaml:8: vm.hostname: zap {IN_USE} <host mac="52:54:00:00:00:09" name="zap" ip="192.168.122.9"/>',
        "give this host another vm.hostname, or remove that reservation: virsh net-update",
    ),
    (
        {"reservations": (Reservation("", "192.168.122.182", "printer"),)},
        InventoryError,
        f'hosts/zap.yaml:15: vm.ip: 192.168.122.182 {IN_USE} <host name="printer" ip="192.168.122.182"/>',
        "give this host another vm.ip, or remove that reservation: virsh net-update",
    ),
    (
        {"network": replace(NETWORK, reservations={"52:54:00:00:00:09": IPv4Address("192.168.122.182")})},
        InventoryError,
        "hosts/zap.yaml:15: vm.ip: 192.168.122.182 is reserved for 52:54:00:00:00:09 in the network default",
        "192.168.122.2 is free",
    ),
]


@pytest.mark.parametrize(("fields", "kind", "message", "hint"), REFUSALS)
def test_a_first_provision_refuses(
    zap: Host, fields: dict[str, Any], kind: type[SwarmError], message: str, hint: str
) -> None:
    """What another domain or machine has is never taken. The error names file and line, and what to do."""
    error = complaint(zap, nothing(**fields))
    assert (type(error), error.message.replace(str(zap.known_hosts.parent.parent) + "/", ""), error.hint) == (
        kind,
        message,
        hint,
    )


def test_a_domain_is_not_renamed(zap: Host) -> None:
    """A changed vm.domain is refused with the command that renames."""
    error = complaint(samples.variant(zap, domain="bee"), observed(zap))
    assert "this host's domain is called 'zap [claw]', and swarm does not rename" in error.message
    assert error.hint == "stop it and rename it by hand: virsh domrename 'zap [claw]' bee"


def test_a_disk_is_not_moved(zap: Host) -> None:
    """A changed vm.disk_path is refused: the data would be left behind."""
    error = complaint(samples.variant(zap, disk_path="/pool/other.qcow2"), observed(zap))
    assert f"vm.disk_path: the domain's disk is {DISK}, and swarm does not move disks" in error.message
    assert error.hint == "restore the old path, or destroy the VM and provision it again"


def test_a_disk_does_not_shrink(zap: Host) -> None:
    """A smaller vm.disk_size is refused with the size that keeps everything."""
    error = complaint(samples.variant(zap, disk_size="40G"), observed(zap))
    assert "the disk is 60G large, and cut to 40G it would lose data" in error.message
    assert error.hint == "write 60G, or destroy the VM and provision it anew"


def test_another_pinned_key_is_refused(zap: Host) -> None:
    """A pinned key that is not the one the VM was made with is neither used nor overwritten."""
    error = complaint(zap, observed(zap, pinned="ssh-ed25519 AAAAother"))
    assert error.message == f"the key pinned in {zap.known_hosts} is not the one that this VM was made with"
    assert error.hint
    assert "find out who changed the file" in error.hint


def test_what_is_right_is_not_refused(zap: Host) -> None:
    """Neither a first provision nor a later one is refused, and a host's own reservation is no clash."""
    refuse(zap, nothing())
    refuse(zap, nothing(reservations=(Reservation(zap.vm.mac, "192.168.122.182", "zap"),)))
    refuse(zap, nothing(network=None))
    refuse(zap, observed(zap))
    refuse(zap, observed(zap, pinned=None))
    refuse(zap, observed(zap, domain=replace(domain(zap), note=None)))


def test_a_disk_in_use_is_refused_for_an_existing_vm_too(zap: Host) -> None:
    """A disk that another domain uses is not touched, even where the domain of this host records it."""
    error = complaint(zap, observed(zap, taken={DISK: "bee"}))
    assert "is used by the domain 'bee'" in error.message
    assert "destroy" not in f"{error.hint}"


def test_an_unmade_disk_is_made_for_a_recorded_domain(zap: Host) -> None:
    """A run that was killed after it defined the domain goes on with the disk: the domain records whose it is."""
    facts = domain(zap, seed=True, state="stopped", live_xml=None, live_note=None)
    unmade = observed(zap, domain=facts, disk=None, base=volume("base"))
    assert lines(zap, unmade) == [f"+ disk: {DISK}, 60G", "▸ start", FIRST_BOOT]
    assert lines(zap, replace(unmade, base=None))[:2] == CREATED[:2]


def test_a_lost_disk_is_not_replaced(zap: Host) -> None:
    """The disk of a VM that has finished its first boot held data: without it, the plan refuses."""
    error = complaint(zap, observed(zap, disk=None))
    assert f"the domain's disk {DISK} does not exist" in error.message
    assert "./inv destroy --host zap" in f"{error.hint}"


def test_nothing_is_known_of_a_disk_without_a_pool(zap: Host) -> None:
    """Where the pool is not defined, a disk that is not listed is no reason to refuse or to make one."""
    assert lines(zap, observed(zap, disk=None, pool=None)) == []


def test_a_changed_mac_takes_its_reservation_along(zap: Host) -> None:
    """The address that was reserved for the VM's old MAC is its own: it is released, and reserved for the new one."""
    other = samples.variant(zap, mac="52:54:00:01:00:72")
    old = StaleReservation("default", zap.vm.mac, "192.168.122.182")
    entry = Reservation(zap.vm.mac, "192.168.122.182", "zap")
    leased = replace(NETWORK, leases={IPv4Address("192.168.122.182"): zap.vm.mac})
    seen = observed(zap, network=leased, reserved=False, stale=(old,), reservations=(entry,))
    refuse(other, seen)
    assert lines(other, seen)[:2] == [
        "- reservation: 192.168.122.182 for 52:54:00:01:00:71 in the network default (no longer in the host file)",
        "+ reservation: 192.168.122.182 for 52:54:00:01:00:72",
    ]


SHARE_GONE = "/srv/share does not exist"


@pytest.mark.parametrize(
    ("seen", "kind"),
    [
        (nothing(share_problem=SHARE_GONE), InventoryError),
        (nothing(missing=(("a TPM model", "install swtpm"),)), Unfit),
    ],
)
def test_what_a_new_vm_needs_is_asked_before_anything_is_made(
    zap: Host, seen: Observed, kind: type[SwarmError]
) -> None:
    """A share or a feature of the hypervisor that is missing fails the plan, with a remedy."""
    with pytest.raises(kind) as caught:
        make_plan(zap, seen)
    assert caught.value.hint


def test_a_running_vm_does_not_need_its_share_for_a_plan(zap: Host) -> None:
    """A share that is gone is no reason to refuse where neither the definition nor the start depends on it."""
    assert not make_plan(zap, observed(zap, share_problem=SHARE_GONE))
