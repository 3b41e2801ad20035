"""A drill's throwaway VM clashes with nothing, and its report says what differs."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from itertools import islice
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest

from swarm import inventory
from swarm.backup import health, monitor, record
from swarm.backup.busy import hold_host
from swarm.backup.catalog import Catalog
from swarm.backup.drill import Options, Report, drill
from swarm.backup.record import Record
from swarm.backup.rehearsal import Check, isolation, targets
from swarm.console import Talk, screen
from swarm.errors import Refused, SwarmError, Unfit, VerificationFailed
from swarm.vm import desired
from swarm.vm import isolation as cut
from swarm.vm.throwaway import derive, derived_name, folder
from tests import samples
from tests.samples import variant
from tests.unit.facts import NETWORK

if TYPE_CHECKING:
    from swarm.backup.busy import Work
    from swarm.vm.throwaway import Throwaway
    from tests.conftest import Dirs

ZAP = inventory.load("zap")


def drilled(**options: Any) -> Throwaway:
    """Return zap's throwaway VM."""
    return derive(ZAP, options.pop("others", []), options.pop("network", NETWORK), **options)


def test_throwaway_is_like_the_original() -> None:
    """Image, memory, processors, disk size and hypervisor are the original's; the identity is not."""
    vm = drilled()
    same = ("image", "memory_mib", "vcpus", "disk_size")
    assert [getattr(vm.vm, name) for name in same] == [getattr(ZAP.vm, name) for name in same]
    assert vm.hypervisor == ZAP.hypervisor
    for name in ("domain", "hostname", "mac", "ip", "disk_path"):
        assert getattr(vm.vm, name) != getattr(ZAP.vm, name)
    assert vm.vm.disk_path.parent == ZAP.vm.disk_path.parent
    assert (vm.vm.virtiofs, vm.vm.autostart) == (None, False)
    assert desired.domain_uuid(vm) != desired.domain_uuid(ZAP)


def test_throwaway_passes_the_checks_of_a_host_file() -> None:
    """What is derived could stand in a host file, and clashes with no other host."""
    vm = drilled()
    assert variant(vm) == inventory.Host.model_validate(vm.model_dump(mode="json"))
    inventory.cross_check([ZAP, vm])
    inventory.check_network(vm, NETWORK)


def test_a_machine_without_a_vm_is_drilled_in_one(dirs: Dirs) -> None:
    """For a machine that swarm did not make, the VM is made as the section drill says, on its hypervisor."""
    (dirs.hosts / "claw.yaml").write_text(
        "hypervisor: {uri: none}\nmachine: {address: claw.example.org, hostname: claw, port: 2222}\n"
        "drill: {image: built, memory_mib: 1024, disk_size: 30G}\n",
        encoding="utf-8",
    )
    claw = inventory.load("claw")
    vm = derive(claw, [ZAP], NETWORK)
    assert (vm.hypervisor.uri, vm.foreign, vm.machine) == ("embedded", False, None)
    assert (vm.vm.image, vm.vm.memory_mib, vm.vm.disk_size) == ("built", 1024, 30 << 30)
    assert (vm.name, vm.vm.domain, vm.vm.mac != ZAP.vm.mac) == ("claw-drill", "claw-drill", True)
    assert vm.address in map(str, NETWORK.subnet.hosts())
    assert ("claw.example.org", 2222) in targets(claw)  # what the drill's guest must not reach


def test_pin_is_private() -> None:
    """The pinned key is beneath the state directory, and stays there when the VM gets another address."""
    vm = drilled()
    moved = vm.model_copy(update={"own_vm": vm.vm.model_copy(update={"ip": IPv4Address("198.18.0.2")})})
    assert vm.known_hosts == moved.known_hosts == folder("zap-drill") / "known_hosts"
    assert vm.known_hosts.parent != ZAP.known_hosts.parent


@pytest.mark.parametrize("name", ["z", "a" * 26, "a" * 27, "a" * 32, "b_" * 16])
def test_names_fit(name: str) -> None:
    """However long the host's name is, the derived host name and name are valid."""
    vm = derive(variant(ZAP, name=name), [], NETWORK)
    assert len(vm.name) <= 32
    assert variant(vm).name == vm.name == derived_name(name)


def test_long_names_stay_apart() -> None:
    """Two names that differ only at the end give two names."""
    assert derived_name("a" * 31 + "b") != derived_name("a" * 31 + "c")


def test_another_host_of_that_name_is_refused() -> None:
    """A real host with the derived name is never touched."""
    with pytest.raises(Refused, match="zap-drill"):
        drilled(others=[variant(ZAP, name="zap-drill")])


def test_addresses_of_others_are_left_alone() -> None:
    """Addresses that are reserved, leased or planned in a host file are not taken."""
    network = replace(NETWORK, leases={IPv4Address("192.168.122.2"): "52:54:00:aa:aa:aa"})
    other = variant(ZAP, name="bee", ip="192.168.122.3", mac="52:54:00:00:00:03")
    assert drilled(network=network, others=[other]).vm.ip == IPv4Address("192.168.122.4")


def test_full_network_is_told() -> None:
    """A network without a free address is an error that names it."""
    tiny = replace(NETWORK, subnet=IPv4Network("192.168.122.0/31"), gateway=IPv4Address("192.168.122.1"))
    taken = {"52:54:00:00:00:01": IPv4Address("192.168.122.0")}
    with pytest.raises(Unfit, match="default has no free address"):
        drilled(network=replace(tiny, reservations=taken))


def test_mac_of_another_is_not_taken() -> None:
    """If the derived MAC is in use, in whatever case, the next one is taken, always the same."""
    first = drilled().vm.mac
    second = drilled(macs=[first.upper()]).vm.mac
    assert second != first
    assert second.startswith("52:54:00:")
    assert drilled(macs=[first]).vm.mac == second


def test_isolated_network_has_no_way_out() -> None:
    """The network forwards nothing and resolves no names, and gives its one address to the VM."""
    vm, subnet = drilled(), IPv4Network("198.18.5.8/29")
    tree = ET.fromstring(cut.isolated_xml(vm, subnet))
    assert tree.find("forward") is None
    dns, host = tree.find("dns"), tree.find("ip/dhcp/host")
    assert dns is not None
    assert dns.get("enable") == "no"
    assert host is not None
    assert (host.get("mac"), host.get("ip")) == (vm.vm.mac, "198.18.5.10")
    assert cut.gateway_of(IPv4Address("198.18.5.10")) == IPv4Address("198.18.5.9")


def test_isolated_subnet_overlaps_no_other() -> None:
    """Subnets that another network has are left out, and the choice depends only on the name."""
    first, second = islice(cut.candidates("zap", []), 2)
    assert next(cut.candidates("zap", [first])) == second
    assert list(cut.candidates("zap", [IPv4Network("198.18.0.0/15")])) == []


class Devices:
    """Definitions of a VM and of a network, as `check` reads them."""

    def __init__(self, text: str) -> None:
        self.name, self.text = "lab", text

    def xml(self, *, live: bool = True) -> str:
        """Return the definition."""
        assert live
        return self.text


@pytest.mark.parametrize(
    ("devices", "network"),
    [
        ("<interface type='network'><source network='default'/></interface>", "<network/>"),
        ("<interface type='bridge'><source bridge='br0'/></interface>", "<network/>"),
        ("<interface type='user'/>", "<network/>"),
        ("<hostdev mode='subsystem' type='pci'/>", "<network/>"),
        ("<interface type='network'><source network='lab'/></interface>", "<network><forward/></network>"),
    ],
)
def test_vm_with_a_way_out_is_refused(devices: str, network: str) -> None:
    """Another network, a bridge, a passed-through card or a network that forwards ends the drill."""
    domain: Any = Devices(f"<domain><devices>{devices}</devices></domain>")
    connected: Any = Devices(network)
    with pytest.raises(VerificationFailed):
        cut.check(domain, connected)


def test_isolation_is_judged_by_what_answers() -> None:
    """One address that answers, or a default route, is a failure; silence says what had answered before."""
    before = {"answered": ["1.1.1.1"], "route": "default via 192.168.122.1"}
    assert not isolation(ZAP, before, {"answered": ["192.168.122.182"], "route": ""}).ok
    assert not isolation(ZAP, before, {"answered": [], "route": "default via 198.18.0.1"}).ok
    good = isolation(ZAP, before, {"answered": [], "route": ""})
    assert good.ok
    assert "1.1.1.1 did before" in good.text
    assert ("192.168.122.182", 22) in targets(ZAP)


GOOD = Check("files", ok=True, text="3 files equal the manifest")
BAD = Check("databases", ok=False, text="[red]\x1b x has 1 rows, expected 2")


def test_report_fails_if_one_check_does() -> None:
    """One failed check makes the exit code 1, and stands in the summary, the lines and the data."""
    report = Report("zap", "zap-20261125t030000z", (GOOD, BAD))
    assert (report.exit_code, report.to_json()["result"]) == (1, "failure")
    assert "databases" in report.summary
    assert report.lines()[0].startswith("[green]")
    assert "\\[red]" in report.lines()[1]
    well = Report("zap", "zap-20261125t030000z", (GOOD,))
    assert (well.exit_code, well.to_json()["result"]) == (0, "success")


@pytest.mark.parametrize(
    ("result", "word", "number"), [("success", "drill 2 min", 1), ("failure", "✗ the drill", 0)]
)
def test_recorded_drill_is_shown(result: str, word: str, number: int) -> None:
    """`inv status` and the metrics read what a drill records."""
    now = time.time()
    shown = Record(result="success", ended=now, succeeded=now, drill={"result": result, "ended": now - 120})
    assert word in health.health(shown, now)
    assert f'swarm_backup_last_drill_ok{{host="zap"}} {number}' in monitor.metrics("zap", shown)


def test_drill_that_fails_is_recorded(dirs: Dirs) -> None:
    """A drill that finds no archive fails and is recorded, and the record of the backups stays."""
    host = samples.host("zap")
    record.save("zap", Record(result="success", archive="kept"))
    talk = Talk(screen(), quiet=True)
    with pytest.raises(SwarmError, match="no archive"):
        drill(host, partial(Catalog, "zap", host.backup), talk, Options())
    found = record.load("zap")
    assert (found.result, found.archive) == ("success", "kept")
    assert found.drill["result"] == "failure"
    assert "no archive" in found.drill["message"]
    assert [path.name for path in (dirs.state / "drill").iterdir()] == ["lock"]


@pytest.mark.usefixtures("dirs")
@pytest.mark.parametrize("work", ["backup", "restore"])
def test_drill_waits_for_a_backup(work: Work, capsys: pytest.CaptureFixture[str]) -> None:
    """A backup or a restore that runs is named and not disturbed: the drill begins when it has ended."""
    host, talk = samples.host("zap"), Talk(screen())
    opened: list[bool] = []

    def catalog() -> Catalog:
        opened.append(ended.is_set())
        return Catalog("zap", host.backup)

    ended = Event()
    with ThreadPoolExecutor(1) as pool:
        with hold_host("zap", work):
            running = pool.submit(drill, host, catalog, talk, Options())
            ended.wait(1.5)
            assert opened == []
            ended.set()
        with pytest.raises(SwarmError, match="no archive"):
            running.result(60)
    assert opened == [True]
    assert f"waiting: a {work} of zap is running" in capsys.readouterr().err
