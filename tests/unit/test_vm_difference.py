"""The lines of a plan, computed from a host file and the observed state."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from swarm.vm import egress
from swarm.vm.desired import Note
from swarm.vm.difference import make_plan, pending, unreached
from tests import samples
from tests.unit.facts import CREATED, FIRST_BOOT, KEY, NETWORK, domain, lines, nothing, observed, volume

if TYPE_CHECKING:
    from swarm.inventory import Host
    from tests.conftest import Dirs


@pytest.fixture
def zap(dirs: Dirs) -> Host:
    """The reference host, read from a hosts folder of the test's own."""
    assert dirs.hosts.is_dir()
    return samples.host()


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
    """Existing parts are not created again, and a difference is shown with its current value."""
    assert lines(zap, nothing(**fields)) == expected


def test_no_autostart_is_no_change_for_a_new_domain(zap: Host) -> None:
    """Without autostart there is no autostart step, since a new domain has it off."""
    assert lines(samples.variant(zap, autostart=False), nothing()) == created(autostart=None)


SECOND = "takes effect at the next start; --restart does it now"
SOURCE = Path("~/lab/swarm").expanduser()
SHARE = f"type mount, accessmode passthrough, driver type virtiofs, source dir {SOURCE}, target dir swarm"
CARD = "source network default, model type virtio, filterref filter swarm-zap"
OPEN = "lets the guest reach the internet, and no private address"
FILTER = f"~ network filter: other rules → {OPEN}"
CUT_OFF = "at once: the running guest has no network until it is restarted; --restart does it now"
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
            f"{FILTER} ({CUT_OFF})",
            f"~ network interface 52:54:00:01:00:72: type network, mac address 52:54:00:01:00:72, {CARD} ({SECOND})",
            f"~ network interface 52:54:00:01:00:71: type network, mac address 52:54:00:01:00:71, {CARD} ({SECOND})",
        ]),
        ({"autostart": False}, {}, {}, ["~ autostart: on → off"]),
        ({"disk_size": "80G"}, {}, {}, ["~ disk: 60G → 80G (the guest grows its file system at its next start)"]),
        ({"ip": "192.168.122.183"}, {"reserved": False}, {}, [
            f"~ reservation: 192.168.122.182 → 192.168.122.183 for 52:54:00:01:00:71 ({SECOND})",
            f"{FILTER} ({CUT_OFF})",
        ]),
        ({"network": {"allow": ["10.0.0.7", "192.168.122.1:4000"]}}, {}, {}, [
            f"~ network filter: other rules → {OPEN} but 10.0.0.7, 192.168.122.1:4000",
        ]),
        ({}, {"filter": egress.Facts(own=frozenset({IPv4Address("198.51.100.4")}))}, {}, [
            f"+ network filter: {OPEN} (vm.network.allow lists what else the agent needs)",
        ]),
        ({}, {"filter": egress.Facts(supported=False)}, {}, []),
        ({"network": {"allow": ["any"]}}, {}, {}, [
            f"~ network interface 52:54:00:01:00:71: filterref filter swarm-zap → no filterref filter ({SECOND})",
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
    """Each changed setting and each missing part is exactly one line of the plan."""
    vm_now = domain(zap, **facts)
    assert lines(samples.variant(zap, **vm), observed(zap, domain=vm_now, **fields)) == expected


def test_drift_is_put_back(zap: Host) -> None:
    """A change made with virsh is shown as made outside swarm, and reverted."""
    edited = (
        domain(zap).xml.replace("<vcpu>2</vcpu>", "<vcpu>7</vcpu>").replace('action="reset"', 'action="none"')
    )
    assert lines(zap, observed(zap, domain=domain(zap, xml=edited))) == [
        "~ vCPUs: 7 → 2 (changed outside swarm; put back)",
        "~ watchdog i6300esb: action none → action reset (changed outside swarm; put back)",
    ]


def test_devices_that_came_and_went_are_drift(zap: Host) -> None:
    """An added device is described by its new state, a removed one by its old state."""
    edited = domain(zap).xml.replace('<memballoon model="virtio"/>', '<sound model="ich9"/>')
    assert lines(zap, observed(zap, domain=domain(zap, xml=edited))) == [
        "~ sound ich9: model ich9 → as swarm defined it (changed outside swarm; put back)",
        "~ memballoon virtio: removed → model virtio (changed outside swarm; put back)",
    ]


def test_restart_brings_what_waits(zap: Host) -> None:
    """With --restart, a VM is restarted only if its definition has changed."""
    more = samples.variant(zap, memory_mib=4096)
    assert lines(more, observed(zap), restart=True) == ["~ memory: 3072 MiB → 4096 MiB", "▸ restart"]
    old = domain(zap)
    assert old.live_note
    waiting = replace(old, live_note=replace(old.live_note, spec=old.live_note.spec | {"memory": "other"}))
    assert lines(zap, observed(zap, domain=waiting), restart=True) == ["▸ restart: memory"]
    assert lines(zap, observed(zap), restart=True) == []


@pytest.mark.parametrize(
    ("vm", "restart", "expected"),
    [
        ({"ip": "192.168.122.183"}, False, True),
        ({"ip": "192.168.122.183", "network": {"allow": ["any"]}}, False, True),
        ({"mac": "52:54:00:01:00:72"}, False, True),
        ({"ip": "192.168.122.183"}, True, False),
        ({"memory_mib": 4096}, False, False),
    ],
)
def test_a_running_guest_is_not_at_its_new_address(
    zap: Host, vm: dict[str, Any], *, restart: bool, expected: bool
) -> None:
    """A running guest that gets another address or MAC is not called ready before it is restarted."""
    reserved = not {"ip", "mac"} & vm.keys()
    plan = make_plan(samples.variant(zap, **vm), observed(zap, reserved=reserved), restart=restart)
    assert unreached(plan) is expected


def test_a_paused_vm_is_resumed_before_its_restart(zap: Host) -> None:
    """A paused guest can't power off, and a VM that a restart has started can't be started again."""
    more = samples.variant(zap, memory_mib=4096)
    assert lines(more, observed(zap, domain=domain(zap, state="paused")), restart=True) == [
        "~ memory: 3072 MiB → 4096 MiB",
        "▸ start",
        "▸ restart",
    ]


def test_a_restart_brings_another_address(zap: Host) -> None:
    """With --restart, a VM whose address has changed is restarted, since it keeps the old one until then."""
    moved = samples.variant(zap, ip="192.168.122.183")
    assert lines(moved, observed(zap, reserved=False), restart=True) == [
        "~ reservation: 192.168.122.182 → 192.168.122.183 for 52:54:00:01:00:71",
        FILTER,
        "▸ restart",
    ]


def test_autostart_alone_restarts_nothing(zap: Host) -> None:
    """A change that takes effect at once does not restart the VM."""
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
    """Without recorded hashes, one line says that no part can be compared."""
    facts = domain(zap)
    bare = Note("zap", "qemu", KEY, zap.vm.image) if noted else None
    assert lines(zap, observed(zap, domain=replace(facts, note=bare))) == [
        "~ metadata: defined again, since the record of swarm's definition is missing"
    ]
