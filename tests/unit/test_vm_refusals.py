"""What a plan refuses. Each refusal names the place in the host file and a remedy."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Any

import pytest

from swarm.errors import InventoryError, Refused, SwarmError, Unfit
from swarm.hypervisor.network import Reservation
from swarm.vm import egress
from swarm.vm.difference import make_plan
from swarm.vm.observe import Observed, StaleReservation
from swarm.vm.refusals import refuse
from tests import samples

if TYPE_CHECKING:
    from swarm.inventory import Host
    from tests.conftest import Dirs
from tests.unit.facts import CREATED, DISK, FIRST_BOOT, NETWORK, domain, lines, nothing, observed, volume


@pytest.fixture
def zap(dirs: Dirs) -> Host:
    """The reference host, read from a hosts folder of the test's own."""
    assert dirs.hosts.is_dir()
    return samples.host()


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
        {"namesake": "0b2f", "namesake_host": "old"},
        Refused,
        "hosts/zap.yaml:7: vm.domain: swarm made the domain 'zap [claw]' for the host old, not for zap",
        (
            "if you renamed its file, call it old.yaml again, or destroy the VM under that name first; "
            "otherwise give this host another vm.domain"
        ),
    ),
    (
        {"network": None},
        InventoryError,
        "hosts/zap.yaml:5: hypervisor.network: the hypervisor has no network 'default'",
        "define it (virsh net-define /usr/share/libvirt/networks/default.xml), or name another one",
    ),
    (
        {"pool_problem": ("/srv is a folder of the system", "choose another")},
        Refused,
        "hosts/zap.yaml:12: vm.disk_path: /srv is a folder of the system",
        "choose another",
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
        "use the free address 192.168.122.2",
    ),
    (
        {"filter": egress.Facts("<filter name='swarm-zap'><uuid>an administrator's</uuid></filter>")},
        Refused,
        "zap: the hypervisor already has a network filter 'swarm-zap', which swarm did not make",
        "remove it, if nothing needs it: virsh nwfilter-undefine swarm-zap",
    ),
]


@pytest.mark.parametrize(("fields", "kind", "message", "hint"), REFUSALS)
def test_a_first_provision_refuses(
    zap: Host, fields: dict[str, Any], kind: type[SwarmError], message: str, hint: str
) -> None:
    """A resource of another domain or machine is never taken. The error names file, line and remedy."""
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
    assert "the disk cannot shrink from 60G to 40G" in error.message
    assert error.hint == "write 60G, or destroy the VM and provision it again"


def test_another_pinned_key_is_refused(zap: Host) -> None:
    """A pinned key that differs from the VM's own is neither used nor overwritten."""
    error = complaint(zap, observed(zap, pinned="ssh-ed25519 AAAAother"))
    assert error.message == f"the key pinned in {zap.known_hosts} is not the one that this VM was made with"
    assert error.hint
    assert "find out who changed the file" in error.hint


def test_two_vms_can_swap_their_addresses(zap: Host) -> None:
    """An address that a VM holds is refused with the VM's name, and the way by which two can swap theirs."""
    taken = {"52:54:00:00:00:09": IPv4Address("192.168.122.182")}
    error = complaint(
        zap, observed(zap, network=replace(NETWORK, reservations=taken), macs={"52:54:00:00:00:09": "bee"})
    )
    assert error.message.endswith(
        "is reserved for 52:54:00:00:00:09 in the network default, by the domain 'bee'"
    )
    assert (
        "use the free address 192.168.122.2. To swap the addresses of two VMs: write vm.ip" in f"{error.hint}"
    )


def test_a_network_that_swarm_makes_has_addresses_of_its_own(dirs: Dirs) -> None:
    """In the embedded hypervisor a missing network is made, unless another one has the address of the host."""
    assert dirs.hosts.is_dir()
    host = samples.host(uri="embedded", network="lab", ip="192.168.150.9", source="/srv/x")
    facts = replace(NETWORK, name="lab", reservations={})
    planned = replace(facts, subnet=IPv4Network("192.168.150.0/24"), gateway=IPv4Address("192.168.150.1"))
    refuse(host, nothing(network=None, planned=planned))
    error = complaint(host, nothing(network=None, planned=planned, overlap="default"))
    assert (
        "192.168.150.9 is an address of the network 'default', and the network 'lab' does not exist yet"
        in (error.message)
    )
    assert "hypervisor.network: default" in f"{error.hint}"
    assert "outside the network lab" in complaint(host, nothing(network=None, planned=facts)).message


def test_what_is_right_is_not_refused(zap: Host) -> None:
    """Neither a first provision nor a later one is refused, and a host's own reservation is no clash."""
    refuse(zap, nothing())
    refuse(zap, nothing(reservations=(Reservation(zap.vm.mac, "192.168.122.182", "zap"),)))
    refuse(zap, observed(zap))
    refuse(zap, observed(zap, pinned=None))
    refuse(zap, observed(zap, domain=replace(domain(zap), note=None)))


def test_a_disk_in_use_is_refused_for_an_existing_vm_too(zap: Host) -> None:
    """A disk that another domain uses is not touched, even if this host's domain records it."""
    error = complaint(zap, observed(zap, taken={DISK: "bee"}))
    assert "is used by the domain 'bee'" in error.message
    assert "destroy" not in f"{error.hint}"


def test_an_unmade_disk_is_made_for_a_recorded_domain(zap: Host) -> None:
    """After a run was killed, the next one continues with its disk, since the domain records the owner."""
    facts = domain(zap, seed=True, state="stopped", live_xml=None, live_note=None)
    unmade = observed(zap, domain=facts, disk=None, base=volume("base"))
    assert lines(zap, unmade) == [f"+ disk: {DISK}, 60G", "▸ start", FIRST_BOOT]
    assert lines(zap, replace(unmade, base=None))[:2] == CREATED[:2]


def test_a_lost_disk_is_not_replaced(zap: Host) -> None:
    """The plan refuses if the disk of a VM that has finished its first boot is missing."""
    error = complaint(zap, observed(zap, disk=None))
    assert f"the domain's disk {DISK} does not exist" in error.message
    assert "./inv destroy --host zap" in f"{error.hint}"


def test_a_disk_that_the_domain_misses_is_refused_without_a_pool_too(zap: Host) -> None:
    """If the domain cannot find its disk, the plan says so, wherever the disk was."""
    error = complaint(zap, observed(zap, disk=None, pool=None, disk_lost=True))
    assert f"the domain's disk {DISK} does not exist" in error.message


def test_nothing_is_known_of_a_disk_without_a_pool(zap: Host) -> None:
    """Without a defined pool, a disk that is not listed is neither refused nor created."""
    assert lines(zap, observed(zap, disk=None, pool=None)) == []


def test_a_changed_mac_takes_its_reservation_along(zap: Host) -> None:
    """An address that is reserved for the VM's old MAC is released and reserved for the new one."""
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
    """A missing share or hypervisor feature fails the plan, with a remedy."""
    with pytest.raises(kind) as caught:
        make_plan(zap, seen)
    assert caught.value.hint


def test_a_running_vm_does_not_need_its_share_for_a_plan(zap: Host) -> None:
    """A missing share is accepted if neither the definition nor the start depends on it."""
    assert not make_plan(zap, observed(zap, share_problem=SHARE_GONE))
