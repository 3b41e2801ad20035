"""Volumes, networks and definitions in a real libvirt: the embedded hypervisor, without any VM."""

from __future__ import annotations

import io
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest

from swarm.console import Screen, Talk
from swarm.deadline import Deadline
from swarm.errors import HypervisorError, UsageError
from swarm.fleet.new import NewHost, new
from swarm.hypervisor.domain import Domain
from swarm.hypervisor.network import Network
from swarm.paths import ROOT
from swarm.vm import desired, fitness, seed, serial, shape
from swarm.vm.actions import Action, Work, remember
from swarm.vm.difference import changes, make_plan
from swarm.vm.observe import acceleration, observe
from swarm.vm.serial import console_log
from swarm.vm.throwaway import mac_for
from tests import samples
from tests.integration.dhcp import lease
from tests.integration.pools import FOLDER, MAC

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from swarm.embedded import Embedded
    from swarm.hypervisor.connection import Libvirt
    from swarm.hypervisor.storage import Pool, Volume
    from swarm.inventory import Host
    from tests.conftest import Dirs


def test_a_reservation_is_live_and_configured(libvirt: Libvirt, network: Network) -> None:
    """A reservation is added, changed and removed in both definitions, and completed if one of them misses it."""
    network.reserve(MAC, "192.168.122.182", "zap")
    assert Network(libvirt, "default").reserved(MAC, "192.168.122.182", "zap")
    raw = libvirt.raw.networkLookupByName("default")
    entry = f"<host mac='{MAC}' ip='192.168.122.182'/>"
    raw.update(
        2, 4, -1, entry, 1
    )  # delete, a DHCP host, in the running network only: as `virsh net-update --live` does
    assert not network.reserved(MAC, "192.168.122.182", "zap")
    network.reserve(MAC, "192.168.122.183", "zap")
    assert network.reserved(MAC, "192.168.122.183", "zap")
    assert raw.XMLDesc(0).count(MAC) == raw.XMLDesc(1).count(MAC) == 1
    assert network.leases() == []
    assert network.release(MAC) is True
    assert network.release(MAC) is False
    assert MAC not in raw.XMLDesc(0) + raw.XMLDesc(1)


def test_a_stopped_network_has_one_form(libvirt: Libvirt, network: Network) -> None:
    """A reservation in a stopped network takes effect when it starts, and a second start is no error."""
    raw = libvirt.raw.networkLookupByName("default")
    raw.destroy()
    network.reserve(MAC, "192.168.122.182", "zap")
    assert (network.active, network.leases()) == (False, [])
    network.activate()
    network.activate()
    assert network.active
    assert raw.autostart()
    assert network.reserved(MAC, "192.168.122.182", "zap")


@pytest.fixture
def zap(dirs: Dirs, tmp_path: Path) -> Host:
    """The reference host, in the embedded hypervisor, with an existing share."""
    assert dirs.hosts.is_dir()
    return samples.host(uri="embedded", source=str(tmp_path))


def test_this_machine_can_run_the_vm(libvirt: Libvirt, zap: Host) -> None:
    """With swarm's packages installed, the hypervisor has every feature that the domain needs."""
    assert fitness.missing(libvirt, "qemu") == []
    assert acceleration(zap, libvirt) in {"qemu", "kvm"}


@pytest.fixture
def work(libvirt: Libvirt, zap: Host, pool: Pool, network: Network, base_volume: Volume) -> Iterator[Work]:
    """A provision of zap after its image was uploaded and its disk created."""
    assert network.active
    pool.overlay(zap.vm.disk_path.name, base_volume, zap.vm.disk_size)
    yield work_on(zap, libvirt)
    if domain := Domain.find(libvirt, zap.vm.domain):
        domain.undefine()


def work_on(host: Host, libvirt: Libvirt) -> Work:
    """Return the work of a new run."""
    return Work(host, libvirt, Talk(Screen(), quiet=True), observe(host, libvirt), Deadline(60))


def apply(work: Work, *actions: Action) -> None:
    """Apply actions in order."""
    for action in actions:
        action.apply(work)


DEFINED = (Action.RESERVATION, Action.FILTER, Action.HOST_KEY, Action.SEED, Action.DOMAIN, Action.AUTOSTART)
REST = ["▸ start", "▸ first boot: wait until the guest is ready, then eject and delete the seed"]


def test_the_reference_vm_is_defined_and_stays_so(
    libvirt: Libvirt, zap: Host, work: Work, pool: Pool
) -> None:
    """Libvirt accepts zap's definition and validates it. Only the start remains."""
    apply(work, *DEFINED)
    seen = observe(zap, libvirt)
    assert [change.line() for change in make_plan(zap, seen)] == REST
    assert seen.domain
    assert seen.domain.note
    assert (seen.domain.note.host_key, seen.domain.note.image, seen.domain.kind) == (
        seen.pinned,
        zap.vm.image,
        seen.kind,
    )
    assert (seen.reserved, seen.domain.autostart, seen.domain.disk) == (True, True, str(zap.vm.disk_path))
    assert seen.domain.seed == str(FOLDER / "swarm-zap-seed.iso")
    assert b"CIDATA" in pool.tail("swarm-zap-seed.iso", 1 << 30)[0]

    # As after the first boot: the seed is out of the definition and of the note.
    domain = Domain.find(libvirt, zap.vm.domain)
    assert domain
    assert seen.domain.seed
    domain.detach(seed.device_xml(seen.domain.seed), "vdb", 1)
    kept = seen.domain.note
    remember(domain, kept, desired.domain_xml(zap, seen.kind, None))
    assert [change.line() for change in changes(zap, observe(zap, libvirt))] == [
        "▸ start",
        "- seed: left by an interrupted run",
    ]
    Action.DROP_SEED.apply(work)
    assert [change.line() for change in changes(zap, observe(zap, libvirt))] == [
        "▸ start",
        "▸ boot: wait until the guest is ready",
    ]


def test_a_changed_host_file_changes_the_definition(libvirt: Libvirt, zap: Host, work: Work) -> None:
    """A new memory size is applied to the definition. Then the plan is empty, and nothing else has changed."""
    apply(work, *DEFINED)
    more = samples.variant(zap, memory_mib=4096)
    assert [change.line() for change in changes(more, observe(more, libvirt))] == [
        "~ memory: 3072 MiB → 4096 MiB",
        *REST,
    ]
    before = shape.parts(Domain.find(libvirt, zap.vm.domain).xml())  # type: ignore[union-attr]
    Action.DOMAIN.apply(work_on(more, libvirt))
    assert [change.line() for change in changes(more, observe(more, libvirt))] == REST
    domain = Domain.find(libvirt, zap.vm.domain)
    assert domain
    assert set(shape.parts(domain.xml())) == set(before)
    assert domain.autostart


def test_what_virsh_edit_does_is_drift(libvirt: Libvirt, zap: Host, work: Work) -> None:
    """A device that was removed from the definition is named and restored."""
    apply(work, *DEFINED)
    domain = Domain.find(libvirt, zap.vm.domain)
    assert domain
    text = domain.xml()
    start, end = text.index("<watchdog"), text.index("</watchdog>") + len("</watchdog>")
    libvirt.raw.defineXML(text[:start] + text[end:].replace("watchdog", "", 0))
    lines = [change.line() for change in changes(zap, observe(zap, libvirt))]
    assert any(line.startswith("~ watchdog") and "put back" in line for line in lines)
    Action.DOMAIN.apply(work_on(zap, libvirt))
    assert [change.line() for change in changes(zap, observe(zap, libvirt))] == REST


def test_a_vm_without_its_disk_does_not_start(libvirt: Libvirt, zap: Host, work: Work, pool: Pool) -> None:
    """Libvirt's refusal to start is explained in the error, and the VM stays stopped."""
    apply(work, Action.HOST_KEY, Action.SEED, Action.DOMAIN)
    pool.delete(zap.vm.disk_path.name)
    domain = Domain.find(libvirt, zap.vm.domain)
    assert domain
    with pytest.raises(
        HypervisorError, match=rf"starting the VM .* failed: {zap.vm.disk_path} does not exist"
    ):
        domain.start()
    assert domain.state == "stopped"


def test_a_vm_that_never_started_has_no_console_log(
    libvirt: Libvirt, zap: Host, work: Work, pool: Pool
) -> None:
    """A missing console log is an error. An existing one yields the lines that a terminal would show."""
    assert pool.find(work.host.vm.disk_path.name)
    with pytest.raises(HypervisorError, match=r"has no volume swarm-zap-console\.log"):
        console_log(zap, libvirt)
    said = b"\x1b[2J\x1b[1mBooting\x1b[0m\r\nlast line\r\n"
    pool.upload("swarm-zap-console.log", io.BytesIO(said), len(said), "raw")
    assert console_log(zap, libvirt) == ["Booting", "last line"]
    assert console_log(zap, libvirt, 11) == ["last line"]


def test_a_console_log_of_any_size_is_read_in_parts(
    libvirt: Libvirt, zap: Host, work: Work, pool: Pool
) -> None:
    """Of a log that a guest fills, only the end is read. Whoever follows it gets each complete line once."""
    assert pool.find(work.host.vm.disk_path.name)
    name = desired.console_volume(zap)
    flood = b"flood\n" * (serial.MOST // 6 + 100_000) + b"log"
    pool.upload(name, io.BytesIO(flood), len(flood), "raw")
    assert sum(len(line) + 1 for line in console_log(zap, libvirt)) <= serial.MOST + 1
    first = serial.part(zap, libvirt, 0)
    assert (first.lines[-1], first.end) == ("flood", len(flood) - 3)
    assert serial.part(zap, libvirt, first.end) == ([], first.end)
    pool.delete(name)
    longer = flood + b"in:\n\nnew"
    pool.upload(name, io.BytesIO(longer), len(longer), "raw")
    assert serial.part(zap, libvirt, first.end) == (["login:"], len(longer) - 3)
    pool.delete(name)
    pool.upload(name, io.BytesIO(b"again\n"), 6, "raw")  # the VM was started again, or the log rotated
    assert serial.part(zap, libvirt, first.end) == (["again"], 6)
    pool.delete(name)
    pool.upload(name, io.BytesIO(b"x" * (serial.MOST + 5)), serial.MOST + 5, "raw")
    assert serial.part(zap, libvirt, 0).end == serial.MOST + 5


def test_a_domain_that_the_schema_forbids_is_refused(libvirt: Libvirt, zap: Host) -> None:
    """Definitions are validated: a misspelled element is an error, and not silently ignored."""
    with pytest.raises(HypervisorError, match="defining the VM failed"):
        Domain.define(libvirt, desired.domain_xml(zap, "qemu", None).replace("memballoon", "memballon"))
    assert Domain.find(libvirt, zap.vm.domain) is None


@pytest.fixture
def leased(libvirt: Libvirt) -> Iterator[Network]:
    """A network of its own, so that its leases are in no other test's way."""
    made = Network(libvirt, "leased")
    xml = desired.network_xml("leased", IPv4Address("192.168.77.3"))
    made.define(xml.replace('stp="on"', 'stp="off"'))  # it would hold frames back for seconds
    made.activate()
    yield made
    made.remove()


@pytest.mark.slow
def test_a_leased_address_is_never_picked(
    embedded: Embedded, leased: Network, dirs: Dirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`inv new` passes over the addresses and MACs that dnsmasq has leased to others, and refuses them as --ip."""
    first, own = "52:54:00:77:00:01", mac_for("bee", ())
    for mac, address in ((first, "192.168.77.2"), (own, "192.168.77.4")):
        assert lease(embedded, leased.raw.bridgeName(), mac, address) == address
    # dnsmasq answers before it runs the program that notes the lease for libvirt.
    deadline, noted = Deadline(30), [("192.168.77.2", first), ("192.168.77.4", own)]
    while sorted(leased.leases()) != noted:
        assert deadline.pause(0.1), leased.leases()
    monkeypatch.setenv("SWARM_STATE", str(embedded.state.parent))
    text = (
        (ROOT / "hosts" / "demo.yaml").read_text(encoding="utf-8").replace("192.168.122.30", "192.168.77.3")
    )
    text = text.replace("  uri: embedded\n", "  uri: embedded\n  network: leased\n")
    (dirs.hosts / "demo.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=f"--ip: 192.168.77.2 is already used by a lease of {first}"):
        new(NewHost("bee", ip="192.168.77.2"), Talk(Screen()), plan_only=True)
    known = new(NewHost("bee", mac=own), Talk(Screen()), plan_only=True).host.vm
    assert (known.mac, str(known.ip)) == (own, "192.168.77.4")  # it is this machine's lease
    made = new(NewHost("bee"), Talk(Screen()), plan_only=False)
    assert str(made.host.vm.ip) == "192.168.77.5"
    assert made.host.vm.mac not in {first, own}
    assert not [note for note in made.notes if "hypervisor" in note]
