"""Host files are checked against each other."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from swarm import inventory
from swarm.inventory import uri
from tests.unit.hostfiles import ZAP, refused, write

if TYPE_CHECKING:
    from tests.conftest import Dirs


def test_a_copied_host_file_conflicts_in_five_fields(dirs: Dirs) -> None:
    """The same domain, disk, mac, ip or host name is an error with both lines."""
    first, second = dirs.hosts / "bee.yaml", dirs.hosts / "cow.yaml"
    first.write_text(ZAP)
    second.write_text("# a copy\n" + ZAP)
    with refused() as error:
        inventory.load_all()
    assert error[0].splitlines() == [
        f"5 problems in {second}:",
        f"  {second}:8: vm.domain: zap [claw] is already used by {first}:7 (choose another value for cow)",
        f"  {second}:9: vm.hostname: zap is already used by {first}:8 (choose another value for cow)",
        (
            f"  {second}:13: vm.disk_path: /var/lib/libvirt/images/claw.qcow2 is already used "
            f"by {first}:12 (choose another value for cow)"
        ),
        f"  {second}:15: vm.mac: 52:54:00:01:00:71 is already used by {first}:14 (choose another value for cow)",
        f"  {second}:16: vm.ip: 192.168.122.182 is already used by {first}:15 (choose another value for cow)",
    ]


@pytest.mark.parametrize(
    ("fields", "same"),
    [({}, True), ({"network": "lab"}, False), ({"uri": "embedded"}, False)],
    ids=["one network", "another network", "another hypervisor"],
)
def test_a_host_name_is_unique_in_its_network(dirs: Dirs, fields: dict[str, str], *, same: bool) -> None:
    """Libvirt refuses a second reservation of a name in one network, so the files already may not have it."""
    write(dirs, "ant", hostname="claw")
    second = write(dirs, "bat", hostname="claw", source="/srv/x", **fields)
    if same:
        with refused() as error:
            inventory.load_several(["bat"])
        assert error[0] == f"{second}:8: vm.hostname: claw is already used by {dirs.hosts / 'ant.yaml'}:8"
    else:
        assert len(inventory.load_all()) == 2


@pytest.mark.parametrize(
    ("field", "one", "other"),
    [
        ("domain", "bee", "'bee'"),
        ("disk_path", "/pool/a.qcow2", "//pool/./a.qcow2"),
        ("mac", "52:54:00:AA:00:01", "52:54:00:aa:00:01"),
        ("ip", "10.0.0.1", '"10.0.0.1"'),
    ],
)
def test_different_spellings_of_one_value_conflict(dirs: Dirs, field: str, one: str, other: str) -> None:
    """Different spellings of one name, path, mac or address are the same value."""
    first, second = write(dirs, "ant", **{field: one}), write(dirs, "bat", **{field: other})
    with refused() as error:
        inventory.load_all()
    assert error[0].startswith(f"{second}:")
    assert f": vm.{field}: " in error[0]
    assert f" is already used by {first}:" in error[0]
    assert error[1] == "choose another value for bat"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("qemu:///system", "qemu+unix:///system", True),
        ("qemu+ssh://ann@box/system", "qemu+tls://BOX/system", True),
        ("qemu:///system", "embedded", False),
        ("qemu:///system", "qemu:///session", os.geteuid() == 0),
        ("qemu+ssh://ann@box/session", "qemu+ssh://bob@box/session", False),
        ("qemu+ssh://ann@box/session", "qemu+ssh://ann@box/system", False),
        ("qemu+ssh://root@box/session", "qemu+ssh://ann@box/system", True),
        ("qemu+ssh://box/system", "qemu+ssh://fox/system", False),
        ("qemu:///system", "qemu+ssh://box/system", False),
        ("qemu:///system", "qemu:///system?socket=/run/other", False),
    ],
)
def test_hosts_on_different_hypervisors_do_not_conflict(
    dirs: Dirs, one: str, other: str, *, same: bool
) -> None:
    """The same ip is a conflict only on the same hypervisor, whichever URI refers to it."""
    assert (uri.place(one) == uri.place(other)) is same
    for name, address in (("ant", one), ("bat", other)):
        write(dirs, name, uri=address, ip="10.0.0.1", source="/srv/x")
    if same:
        with refused():
            inventory.load_all()
    else:
        assert len(inventory.load_all()) == 2


def test_a_chosen_host_is_checked_against_all_other_hosts(dirs: Dirs) -> None:
    """load_several keeps the order and reports conflicts with other hosts, but not the others' own errors."""
    write(dirs, "ant")
    write(dirs, "bat")
    write(dirs, "cow", ip="10.0.0.1")
    write(dirs, "dog", ip="10.0.0.1")
    (dirs.hosts / "eel.yaml").write_text("vm: [")
    assert [host.name for host in inventory.load_several(["bat", "ant", "bat"])] == ["bat", "ant"]
    with refused() as error:
        inventory.load_several(["ant", "cow"])
    assert (
        error[0]
        == f"{dirs.hosts / 'cow.yaml'}:15: vm.ip: 10.0.0.1 is already used by {dirs.hosts / 'dog.yaml'}:15"
    )
    with refused():
        inventory.load_several(["ant", "eel"])
