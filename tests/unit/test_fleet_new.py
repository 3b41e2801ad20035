"""`inv new` and `inv remove` without a hypervisor: what is copied, chosen, refused and undone."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest

from swarm import inventory
from swarm.commands import fleet
from swarm.console import Talk, screen
from swarm.errors import InventoryError, Refused, Unfit, UsageError
from swarm.fleet import free, instances, new, place
from swarm.fleet.draft import renamed
from swarm.fleet.new import NewHost
from swarm.fleet.remove import remove
from swarm.hypervisor.usage import Usage
from swarm.inventory import NetworkFacts
from swarm.paths import ROOT, instances_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Dirs

EXTRA = """backup:
  ping: https://hc-ping.com/0b1c # the switch of demo
  destinations:
    - s3://demo/backups/ # where demo goes
    - file:///mnt/demo-2/x
agentmon:
  url: http://192.168.122.1:8080
  vm_name: "demo"
"""


@pytest.fixture(autouse=True)
def _own_units(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep out of the person's own timers."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def demo(dirs: Dirs) -> Path:
    """The demo's host file, with backups and agentmon."""
    path = dirs.hosts / "demo.yaml"
    path.write_text((ROOT / "hosts/demo.yaml").read_text(encoding="utf-8") + EXTRA, encoding="utf-8")
    return path


def make(name: str, **options: str) -> new.Made:
    """Make a host."""
    return new.new(NewHost(name, **options), Talk(screen()), plan_only=False)


def undo(name: str, *, plan_only: bool = False, yes: bool = True) -> bool:
    """Remove a host. Return whether something was (or would be) removed."""
    return bool(remove(name, Talk(screen()), plan_only=plan_only, yes=yes))


def test_a_copy_has_its_own_names_and_addresses(demo: Path) -> None:
    """Sections and comments are those of the other host. What only one host may have is new or left out."""
    made = make("bee_1", like="demo")
    host = inventory.load("bee_1")
    vm = host.vm
    assert (vm.domain, vm.hostname, str(vm.ip)) == ("bee_1", "bee-1", "192.168.122.2")
    assert vm.disk_path == PurePosixPath("/var/lib/libvirt/images/bee_1.qcow2")
    assert vm.mac.startswith("52:54:00:")
    assert host.backup.ping is None
    assert host.backup.destinations == ("s3://bee-1/backups/", "file:///mnt/demo-2/x")
    assert host.agentmon
    assert host.agentmon.vm_name == "bee_1"
    text = (demo.parent / "bee_1.yaml").read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=schema.json\n# Made by `./inv new`")
    assert "- machine # the CAs that were added" in text
    assert 'vm_name: "bee_1"' in text
    assert "hc-ping" not in text
    assert made.next == ("./inv up --host bee_1",)
    assert instances.read().entries["bee_1"] == instances.entry(host)
    assert any(note.startswith("check what still names demo: line ") for note in made.notes)


def test_a_copy_never_has_another_hosts_host_name(demo: Path) -> None:
    """A name that a file of the same network already uses gets a number, without a hypervisor to ask."""
    demo.write_text(demo.read_text(encoding="utf-8").replace("hostname: demo", "hostname: bee"))
    make("bee", like="demo")
    assert inventory.load("bee").vm.hostname == "bee-2"
    assert len(inventory.load_all()) == 2


def test_a_copy_never_has_the_address_of_a_machine(demo: Path) -> None:
    """The address of a machine that swarm did not make is neither chosen nor accepted, so its port can't be taken."""
    text = "hypervisor: {uri: none}\nmachine: {address: 192.168.122.2, hostname: claw}\n"
    demo.with_name("claw.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"192\.168\.122\.2 is already used by the host claw"):
        make("bee", like="demo", ip="192.168.122.2")
    make("bee", like="demo")
    assert str(inventory.load("bee").vm.ip) == "192.168.122.3"


@pytest.mark.usefixtures("demo")
def test_the_plan_writes_nothing(dirs: Dirs) -> None:
    """`--plan` shows the whole file and leaves no trace of it."""
    made = new.new(NewHost("bee"), Talk(screen()), plan_only=True)
    assert "ip: 192.168.122.2" in str(made.plan.changes[0].detail)
    assert [path.name for path in dirs.hosts.iterdir()] == ["demo.yaml"]
    assert not instances_file().exists()


@pytest.mark.usefixtures("demo")
def test_a_second_run_has_nothing_to_do() -> None:
    """The same words change nothing, other words are refused, and a lost entry is added again."""
    assert make("bee", like="demo").plan
    assert not make("bee", like="demo").plan
    with pytest.raises(Refused, match=r"bee\.yaml exists; nothing was changed"):
        make("bee", like="demo", ip="192.168.122.77")
    instances.drop("bee")
    assert [change.action for change in make("bee", like="demo").plan] == ["create"]
    assert instances.read().entries["bee"]


def test_a_host_whose_vm_may_exist_stays(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If the hypervisor does not answer, nothing is removed, unless it is forced."""
    text = demo.read_text(encoding="utf-8")
    demo.write_text(text.replace("uri: embedded", "uri: test:///nowhere"), encoding="utf-8")
    sentence = "whether demo still has a VM is not known"
    with pytest.raises(Refused, match=f"{sentence}: .*; nothing was removed") as caught:
        undo("demo")
    assert "--force" in str(caught.value.hint)
    assert demo.exists()
    assert fleet.remove("demo", plan_only=False, as_json=False, yes=True, force=True) == 0
    assert not demo.exists()
    assert f"note: {sentence}" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["vm: [", "# mine\n"])
def test_a_file_of_the_person_is_never_replaced(demo: Path, text: str) -> None:
    """Whatever hosts/NAME.yaml holds, it stays."""
    path = demo.with_name("bee.yaml")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(Refused):
        make("bee")
    assert path.read_text(encoding="utf-8") == text


def test_a_file_that_appears_meanwhile_is_not_replaced(demo: Path) -> None:
    """Between the look and the write, another program's file wins, and no scratch file is left."""
    text = demo.read_text(encoding="utf-8")
    own = text.replace("demo", "bee").replace("de:30", "de:31").replace("122.30", "122.31")
    path = demo.with_name("bee.yaml")
    path.write_text("# mine\n", encoding="utf-8")
    with pytest.raises(Refused, match=r"bee\.yaml exists; nothing was changed"):
        place.put("bee", own)
    assert path.read_text(encoding="utf-8") == "# mine\n"
    assert sorted(each.name for each in demo.parent.iterdir()) == ["bee.yaml", "demo.yaml"]
    path.unlink()
    assert place.put("bee", own).name == "bee"
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"ip": "192.168.122.30"}, UsageError, "192.168.122.30 is already used by the host demo"),
        ({"ip": "bee"}, UsageError, "--ip: expected an IPv4 address, found 'bee'"),
        ({"mac": "52:54:00:00:DE:30"}, UsageError, "52:54:00:00:DE:30 is already used by the host demo"),
        ({"mac": "02:00:00:00:00:01"}, InventoryError, "no host file was written: .*bee.yaml:.* vm.mac: "),
        ({"like": "bee"}, UsageError, "bee can't be like itself"),
        ({"like": "zap"}, InventoryError, "there is no host 'zap'"),
        ({"hypervisor": "qemu+tcp://box/system"}, UsageError, "--hypervisor: the transport tcp"),
        ({"hypervisor": "none"}, UsageError, "swarm does not make the machines of hypervisor.uri: none"),
    ],
)
def test_what_can_not_be_is_refused_first(
    demo: Path, options: dict[str, str], error: type[Exception], sentence: str
) -> None:
    """An option that clashes or is invalid is named, and nothing is written."""
    with pytest.raises(error, match=sentence):
        make("bee", **options)
    assert sorted(path.name for path in demo.parent.iterdir()) == ["demo.yaml"]
    assert not instances_file().exists()


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize("name", ["", "Bee", "../bee", "all", "b" * 33, "bee\n"])
def test_a_name_that_no_host_can_have(name: str) -> None:
    """A name that is no name of a host is refused, by `new` and by `remove`."""
    with pytest.raises(UsageError, match="not a valid name"):
        make(name)
    with pytest.raises(UsageError, match="not a valid name"):
        undo(name)


@pytest.mark.usefixtures("dirs")
def test_the_first_host_comes_from_a_template() -> None:
    """Without any host file, the first one is like the demo, or for libvirt's own images elsewhere."""
    make("bee")
    assert (inventory.load("bee").vm.image, str(inventory.load("bee").vm.ip)) == ("built", "192.168.122.2")
    undo("bee")
    make("ant", hypervisor="test:///no/such/file")
    assert inventory.load("ant").vm.image == "ubuntu-24.04"


@pytest.mark.parametrize("name", ["123", "1e3", "0x1f", "null", "true"])
@pytest.mark.usefixtures("dirs")
def test_a_name_that_yaml_takes_for_a_value(name: str) -> None:
    """Such a name is in quotes in the first host's file, and a second run has nothing to do."""
    assert make(name).plan.changed
    assert (inventory.load(name).vm.domain, inventory.load(name).vm.hostname) == (name, name)
    assert not make(name).plan.changed


@pytest.mark.usefixtures("demo")
def test_a_damaged_instances_file_stops_everything(dirs: Dirs) -> None:
    """The host file is not written if the host can't be registered."""
    instances_file().parent.mkdir()
    instances_file().write_text("{", encoding="utf-8")
    with pytest.raises(Unfit):
        make("bee")
    assert not (dirs.hosts / "bee.yaml").exists()


def test_remove_undoes_new(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Host file, pin and entry go; mirror and archives stay, and are named. A second run has nothing to do."""
    make("bee", like="demo")
    (demo.parent / "bee.known_hosts").write_text("bee ssh-ed25519 AAAA\n", encoding="utf-8")
    mirror = demo.parent.parent / "mirrors" / "bee"
    mirror.mkdir()
    assert undo("bee", plan_only=True)
    with pytest.raises(Refused, match="bee was not removed"):
        undo("bee", yes=False)
    assert (demo.parent / "bee.yaml").exists()
    capsys.readouterr()
    assert undo("bee")
    said = capsys.readouterr().err
    assert f"kept: the mirror, {mirror}" in said
    assert "kept: the archives in s3://bee/backups/" in said
    assert [path.name for path in demo.parent.iterdir()] == ["demo.yaml"]
    assert instances.read().entries == {}
    assert mirror.is_dir()
    assert not undo("bee")
    assert capsys.readouterr().err == "nothing to do\nthere is no host 'bee'\n"


def test_what_is_left_of_a_host_without_a_file_goes_too(demo: Path) -> None:
    """A pin and a timer's link without a host file are found and removed."""
    pin = demo.with_name("bee.known_hosts")
    pin.write_text("bee ssh-ed25519 AAAA\n", encoding="utf-8")
    assert undo("bee")
    assert not pin.exists()


@pytest.mark.usefixtures("demo")
def test_new_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` writes the file, the addresses and the next commands, and no talk."""
    assert fleet.new(NewHost("bee"), "", timer=False, plan_only=False, as_json=True) == 0
    out, _ = capsys.readouterr()
    data = json.loads(out)
    assert (data["host"], data["ip"], data["changed"]) == ("bee", "192.168.122.2", True)
    assert data["next"] == ["./inv timers.install --host bee", "./inv up --host bee"]


def test_from_takes_no_other_options() -> None:
    """--from with another option is refused, since it would have no effect."""
    with pytest.raises(UsageError, match="--from can't be combined"):
        fleet.new(NewHost("bee"), "old", timer=False, plan_only=False, as_json=False)
    with pytest.raises(UsageError, match="new needs --host NAME"):
        fleet.new(NewHost(""), "", timer=False, plan_only=False, as_json=False)


# ── what is free ─────────────────────────────────────────────────────────────────────────────────────────────────────

NET = NetworkFacts("lab", IPv4Network("10.0.0.0/29"), IPv4Address("10.0.0.1"))


@pytest.mark.parametrize(
    ("spans", "taken", "elsewhere", "expected"),
    [
        ([], [], [], "10.0.0.2"),
        ([], [2, 3], [], "10.0.0.4"),
        ([(2, 4)], [], [], "10.0.0.5"),
        ([(2, 2), (3, 5)], [], [], "10.0.0.6"),
        ([(2, 4)], [5, 6], [], "10.0.0.2"),
        ([], [], [2], "10.0.0.3"),
        ([(2, 4)], [], [5, 6], "10.0.0.5"),
        ([], [2], [3, 4, 5, 6], "10.0.0.3"),
    ],
)
def test_the_free_address(
    spans: list[tuple[int, int]], taken: list[int], elsewhere: list[int], expected: str
) -> None:
    """It is the lowest one that nothing has: outside the dynamic ranges, and of no host elsewhere, if possible."""
    base = IPv4Address("10.0.0.0")
    found = free.Taken(
        replace(NET, dynamic_ranges=tuple((base + first, base + last) for first, last in spans)),
        ips={base + number: "x" for number in taken},
        elsewhere=frozenset(base + number for number in elsewhere),
    )
    assert str(free.address(found)) == expected


def test_a_full_network_is_one_sentence() -> None:
    """Without a free address the error names the network."""
    full = free.Taken(NET, ips={IPv4Address(f"10.0.0.{number}"): "x" for number in range(2, 7)})
    with pytest.raises(Unfit, match=r"the network lab, 10\.0\.0\.0/29, has no free address"):
        free.address(full)


@pytest.mark.parametrize("given", ["10.0.1.2", "10.0.0.0", "10.0.0.7", "10.0.0.1"])
def test_an_address_that_the_network_does_not_have(given: str) -> None:
    """--ip must be an address of the network, and neither its first, its last, nor the gateway's."""
    taken = free.Taken(NET, ips={NET.gateway: "the gateway of the network lab"})
    with pytest.raises(UsageError, match="--ip: ") as caught:
        free.address(taken, given)
    assert given in caught.value.message
    assert caught.value.hint == "use the free address 10.0.0.2"


def test_macs_disks_and_names_avoid_what_is_taken() -> None:
    """The MAC follows from the name; taken MACs, disks and names are passed over."""
    first = free.Taken(NET).mac("bee")
    assert first == free.Taken(NET).mac("bee") != free.Taken(NET).mac("ant")
    assert free.Taken(NET, macs={first: "the host ant"}).mac("bee") not in {"", first}
    folder = PurePosixPath("/srv/vm")
    used = Usage(disks={"/srv/vm/bee-2.qcow2": "other"})
    taken = free.Taken(NET, disks=frozenset({"/srv/vm/bee.qcow2"}), used=used)
    assert str(free.disk(taken, folder, "bee")) == "/srv/vm/bee-3.qcow2"
    assert free.numbered("bee", {"bee", "bee-2"}) == "bee-3"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("zap [claw]", "bee [claw]"), ("zapper", "zapper"), ("zap-2", "zap-2"), ("s3://zap/a", "s3://bee/a")],
)
def test_only_the_whole_name_is_renamed(text: str, expected: str) -> None:
    """A longer word that begins with the old name is another name."""
    assert renamed(text, "zap", "bee") == expected
