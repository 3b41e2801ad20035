"""`inv hosts --check`: every kind of disagreement is found, and none where all agree."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest

from swarm.commands import fleet
from swarm.console import Talk, screen
from swarm.errors import Refused, Unfit, UsageError
from swarm.fleet import free, instances
from swarm.fleet.ask import ask
from swarm.fleet.check import check
from swarm.fleet.new import NewHost, new
from swarm.fleet.remove import remove
from swarm.hypervisor.connection import Libvirt
from swarm.hypervisor.domain import Domain
from swarm.hypervisor.network import Network
from swarm.inventory import load
from swarm.paths import ROOT, instances_file
from swarm.vm import desired

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Dirs

NETWORK = """<network><name>lab</name><bridge name="virbr9"/><forward mode="nat"/>
<ip address="192.168.122.1" netmask="255.255.255.0"><dhcp><range start="192.168.122.2" end="192.168.122.254"/>
{hosts}</dhcp></ip></network>"""
DOMAIN = """<domain type="test"><name>{name}</name><uuid>{uuid}</uuid><memory>65536</memory>
<os><type>hvm</type></os></domain>"""
OTHER = "11111111-2222-3333-4444-555555555555"


@pytest.fixture(autouse=True)
def units(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give the directory of the enabled timers, instead of the person's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    made = tmp_path / "systemd/user/timers.target.wants"
    made.mkdir(parents=True)
    return made


@pytest.fixture
def bee(dirs: Dirs) -> Path:
    """A host file."""
    text = (ROOT / "hosts/demo.yaml").read_text(encoding="utf-8")
    path = dirs.hosts / "bee.yaml"
    path.write_text(text.replace("demo", "bee"), encoding="utf-8")
    return path


def found() -> list[str]:
    """Return the sentences."""
    return [each.message for each in check(Talk(screen())).findings]


def test_files_that_agree(bee: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One registered host is in order; without an instances file, that is only a note."""
    report = check(Talk(screen()))
    assert (report.findings, len(report.notes)) == ([], 1)
    assert fleet.check(fix=True, as_json=False) == 0
    assert instances.read().entries["bee"] == instances.entry(load("bee"))
    assert "1 host files, no disagreement" in capsys.readouterr().err
    assert bee.exists()


def test_every_stray_is_found(bee: Path, dirs: Dirs, units: Path) -> None:
    """A pin, a timer, a mirror, a record and an entry of a host without a file are named, with what to do."""
    bee.with_name("ant.known_hosts").touch()
    (units / "openclaw-backup@cow.timer").symlink_to("/nowhere")
    (units / "openclaw-backup@bee.timer").symlink_to("/nowhere")
    (dirs.mirrors / "dog").mkdir()
    (dirs.state / "backup/eel").mkdir(parents=True)
    instances_file().parent.mkdir()
    instances_file().write_text('{"fox": {}, "bee": {"ip": "10.0.0.1"}}', encoding="utf-8")
    report = check(Talk(screen()))
    assert [each.host for each in report.findings] == ["bee", "fox", "ant", "cow", "dog", "eel"]
    assert "other values for bee: host None, ip '10.0.0.1'" in report.findings[0].message
    assert "./inv remove --host fox" in report.findings[1].hint
    assert all(each.hint for each in report.findings)


def test_files_that_clash(bee: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two hosts with one address, and a file that is invalid, are findings; the exit code is 1."""
    text = bee.read_text(encoding="utf-8")
    bee.with_name("cow.yaml").write_text(
        text.replace("bee", "cow").replace("de:30", "de:31"), encoding="utf-8"
    )
    bee.with_name("dog.yaml").write_text("vm: [\n", encoding="utf-8")
    assert fleet.check(fix=False, as_json=True) == 1
    data = json.loads(capsys.readouterr().out)
    assert [each["host"] for each in data["findings"]] == ["cow", "dog"]
    assert "192.168.122.30 is already used by" in data["findings"][0]["message"]


def test_a_damaged_instances_file_is_a_finding(bee: Path) -> None:
    """The rest is checked all the same."""
    instances_file().parent.mkdir()
    instances_file().write_text("[1", encoding="utf-8")
    bee.with_name("ant.known_hosts").touch()
    messages = found()
    assert len(messages) == 2
    assert "openclaw-instances.json can't be used" in messages[0]


@pytest.fixture
def lab(bee: Path) -> Iterator[Libvirt]:
    """Let the host be on libvirt's test driver, which all connections of this process share while one is open."""
    text = bee.read_text(encoding="utf-8").replace("uri: embedded", "uri: test:///default\n  network: lab")
    bee.write_text(text, encoding="utf-8")
    with Libvirt("test:///default") as connection:
        before = {domain.name for domain in Domain.all(connection)}
        yield connection
        Network(connection, "lab").remove()
        for domain in Domain.all(connection):
            if domain.name not in before:
                domain.raw.undefine()


@pytest.mark.parametrize(
    ("domain", "uuid", "hosts", "sentences"),
    [
        ("other", OTHER, "", []),
        ("bee", "own", "<host mac='52:54:00:00:de:30' ip='192.168.122.30'/>", []),
        ("bee", OTHER, "", ["has a domain 'bee' that is not this host's"]),
        (
            "other",
            OTHER,
            "<host mac='52:54:00:00:00:01' ip='192.168.122.30'/>",
            ["is reserved for 52:54:00:00:00:01"],
        ),
        (
            "other",
            OTHER,
            "<host mac='52:54:00:00:de:30' ip='192.168.122.9'/>",
            ["reserves 192.168.122.9 for"],
        ),
    ],
)
def test_the_hypervisor_is_compared(
    lab: Libvirt, domain: str, uuid: str, hosts: str, sentences: list[str]
) -> None:
    """An address that is reserved for another MAC, a MAC with another address, and a namesake are found."""
    uuid = desired.domain_uuid(load("bee")) if uuid == "own" else uuid
    Network(lab, "lab").create(NETWORK.format(hosts=hosts))
    lab.raw.defineXML(DOMAIN.format(name=domain, uuid=uuid))
    report = check(Talk(screen()))
    messages = [each.message for each in report.findings]
    assert not any("was not asked" in note for note in report.notes)
    assert len(messages) == len(sentences), messages
    assert all(sentence in message for sentence, message in zip(sentences, messages, strict=True))


def test_a_new_host_avoids_what_the_hypervisor_has(lab: Libvirt) -> None:
    """Reserved addresses and MACs, the dynamic range and the domains' names are passed over; --mac keeps its own."""
    mine = free.survey("ant", "test:///default", "lab", [], None, "", Talk(screen(), quiet=True)).mac("ant")
    hosts = f"<host mac='{mine}' name='ant' ip='192.168.122.2'/>"
    Network(lab, "lab").create(NETWORK.format(hosts=hosts).replace('"192.168.122.254"', '"192.168.122.9"'))
    lab.raw.defineXML(DOMAIN.format(name="ant", uuid=OTHER))
    made = new(NewHost("ant", like="bee"), Talk(screen()), plan_only=False)
    vm = made.host.vm
    assert (str(vm.ip), vm.domain, vm.hostname) == ("192.168.122.10", "ant-2", "ant-2")
    assert vm.mac != mine
    assert made.notes == ()
    with pytest.raises(UsageError, match=r"192\.168\.122\.2 is already used by a reservation for"):
        new(NewHost("cow", like="bee", ip="192.168.122.2"), Talk(screen()), plan_only=False)
    assert (
        new(NewHost("cow", ip="192.168.122.2", mac=mine), Talk(screen()), plan_only=True).host.vm.mac == mine
    )


@pytest.mark.parametrize("mac", ["", "52:54:00:00:00:77"])
def test_a_new_host_avoids_what_is_reserved_for_a_name(lab: Libvirt, mac: str) -> None:
    """An entry without a MAC holds its address and its name, whatever the new MAC is; one for IPv6 disturbs nothing."""
    six = "<ip family='ipv6' address='fd00::1' prefix='64'><dhcp><host name='six' ip='fd00::5'/></dhcp></ip>"
    text = NETWORK.format(hosts="<host name='ant' ip='192.168.122.2'/>")
    Network(lab, "lab").create(text.replace("</network>", f"{six}</network>"))
    vm = new(NewHost("ant", like="bee", mac=mac), Talk(screen()), plan_only=True).host.vm
    assert (str(vm.ip), vm.hostname) == ("192.168.122.3", "ant-2")


def test_a_hypervisor_that_does_not_answer_is_a_note(bee: Path) -> None:
    """It is no disagreement."""
    text = bee.read_text(encoding="utf-8").replace("uri: embedded", "uri: test:///no/such/file")
    bee.write_text(text, encoding="utf-8")
    report = check(Talk(screen()))
    assert report.findings == []
    assert any("was not asked" in note for note in report.notes)


def test_a_question_that_takes_too_long_ends() -> None:
    """A hypervisor that is silent holds nothing up."""
    gate = threading.Event()
    with pytest.raises(Unfit, match="test:///default did not answer within 0 s"):
        ask("test:///default", lambda _: gate.wait(60), limit=0.05)
    gate.set()


def test_remove_refuses_while_the_vm_exists(lab: Libvirt, bee: Path) -> None:
    """The host file of a VM that exists stays, and the hint destroys the VM."""
    raw = lab.raw.defineXML(DOMAIN.format(name="bee", uuid=desired.domain_uuid(load("bee"))))
    with pytest.raises(Refused, match="bee still has a VM, 'bee'; nothing was removed") as caught:
        remove("bee", Talk(screen()), plan_only=False, yes=True)
    assert caught.value.hint == "./inv destroy --host bee removes it with its disk"
    assert bee.exists()
    raw.undefine()
    assert remove("bee", Talk(screen()), plan_only=False, yes=True)
    assert not bee.exists()


def test_a_network_that_does_not_exist_yet(lab: Libvirt) -> None:
    """Without the network, its subnet is assumed and that is said; the domains count all the same."""
    lab.raw.defineXML(DOMAIN.format(name="ant", uuid=OTHER))
    made = new(NewHost("ant", like="bee"), Talk(screen()), plan_only=True)
    assert (str(made.host.vm.ip), made.host.vm.domain) == ("192.168.122.2", "ant-2")
    assert "no network 'lab' yet; the address is one that no host file uses" in made.notes[0]
