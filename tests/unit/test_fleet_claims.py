"""Domains that swarm made, and whose host file names another hypervisor by now."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from swarm import history
from swarm.console import Talk, screen
from swarm.fleet.check import check
from swarm.fleet.claims import Claimed, earlier, left_behind
from swarm.hypervisor.connection import Libvirt
from swarm.hypervisor.domain import Domain
from swarm.vm.desired import Note
from tests import samples
from tests.unit.machines import vps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Dirs

DOMAIN = """<domain type="test"><name>{name}</name><memory>65536</memory><os><type>hvm</type></os></domain>"""
BOX, ALIAS = "qemu+ssh://root@box/system", "qemu+ssh://box.example/system"


@pytest.fixture
def old() -> Iterator[str]:
    """The URI of the hypervisor that the host has left, with its VM and one that swarm did not make.

    All connections of this process share it while one is open.
    """
    with Libvirt("test:///default") as connection:
        made = [Domain.define(connection, DOMAIN.format(name=name)) for name in ("zap", "somebody's")]
        for domain in made:
            if domain.name == "zap":
                domain.write_note(
                    Note("zap", "qemu", "ssh-ed25519 AAAA", "built", disk="/pool/zap.qcow2").to_xml()
                )
        yield connection.uri
        for domain in made:
            domain.raw.undefine()


@pytest.fixture
def new(tmp_path: Path) -> str:
    """The URI of the hypervisor that the host file names now."""
    place = tmp_path / "new.xml"
    place.write_text("<node/>", encoding="utf-8")
    return f"test://{place}"


@pytest.mark.usefixtures("dirs")
def test_a_vm_that_a_host_has_left_is_found(old: str, new: str) -> None:
    """Another host still names the old hypervisor. The hint removes the VM, and says what stays."""
    samples.write(uri=new, source="/data/share")
    own = {"domain": "yak", "hostname": "yak", "mac": "52:54:00:00:00:77", "ip": "192.168.122.77"}
    samples.write("yak", uri=old, network="lab", source="/data/share", disk_path="/pool/yak.qcow2", **own)
    found = [each for each in check(Talk(screen())).findings if "has the domain" in each.message]
    assert [each.message for each in found] == [
        f"{old} has the domain 'zap' of zap, whose hypervisor.uri is now {new}"
    ]
    assert f"virsh -c {old} undefine --nvram --tpm zap; its disk /pool/zap.qcow2 stays" in found[0].hint


@pytest.mark.usefixtures("dirs")
def test_the_hypervisor_where_a_host_was_made_is_asked(old: str, new: str) -> None:
    """No file names the old hypervisor now, but the history of the host does, for a month."""
    host = samples.host(uri=new, source="/data/share")
    assert not any("has the domain" in each.message for each in check(Talk(screen())).findings)
    history.append("zap", "provision", hypervisor=old)
    assert any(f"{old} has the domain 'zap'" in each.message for each in check(Talk(screen())).findings)
    assert earlier([host]) == [old]
    assert earlier([host], time.time() + 31 * 86400) == []


@pytest.mark.usefixtures("dirs")
def test_a_damaged_history_asks_nothing(new: str) -> None:
    """What is no URI that a host file may name is not connected to."""
    history.append("zap", "provision", hypervisor="qemu+tcp://box/system")
    history.append("zap", "provision", hypervisor="://[")
    assert earlier([samples.host(uri=new, source="/data/share")]) == []


def test_a_vm_of_what_is_now_somebody_elses_machine(dirs: Dirs) -> None:
    """A host that moved to an engine of somebody else's has left its VM behind."""
    left = Claimed("claw", "claw", BOX, "key", "")
    assert [host for host, _, _ in left_behind([vps(dirs)], {BOX: [left]})] == ["claw"]


@pytest.mark.parametrize(
    ("uri", "found", "expected"),
    [
        (BOX, {BOX: "key"}, False),
        ("qemu+ssh://me@box/system", {BOX: "key"}, False),
        (ALIAS, {BOX: "key"}, False),
        (ALIAS, {BOX: "key", ALIAS: "key"}, False),
        (ALIAS, {BOX: "key", ALIAS: "another key"}, True),
        (ALIAS, {BOX: "key", ALIAS: None}, True),
        ("embedded", {BOX: "key"}, True),
        ("embedded", {"qemu:///system": "key"}, True),
    ],
)
@pytest.mark.usefixtures("dirs")
def test_two_names_of_one_hypervisor(uri: str, found: dict[str, str | None], *, expected: bool) -> None:
    """A VM that is reached by another name is not left behind: its host key tells that it is the same one."""
    domains = {each: [Claimed("zap", "zap", each, key, "")] if key else [] for each, key in found.items()}
    assert bool(left_behind([samples.host(uri=uri, source="/data/share")], domains)) is expected
