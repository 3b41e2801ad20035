"""What a provision says of a running VM at the end, with libvirt's test driver."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from swarm.commands.run import Selection
from swarm.commands.vm import provisioned
from swarm.errors import CommandFailed
from swarm.fleet import unfinished
from swarm.fleet.unfinished import Unfinished
from swarm.hypervisor.connection import Libvirt
from swarm.hypervisor.domain import Domain
from swarm.hypervisor.network import Network
from swarm.vm import desired, shape
from swarm.vm.actions import Action
from swarm.vm.desired import Note
from swarm.vm.observe import observe
from swarm.vm.provision import provision
from tests import samples
from tests.unit.facts import KEY
from tests.unit.ladders import talk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from swarm.inventory import Host
    from swarm.vm.actions import Work
    from tests.conftest import Dirs


@pytest.fixture
def zap(dirs: Dirs, tmp_path: Path) -> Iterator[Host]:
    """A host whose VM runs as its file says."""
    assert dirs.hosts.is_dir()
    made = samples.host(uri="test:///default", source=str(tmp_path))
    host = made.model_copy(update={"hypervisor": made.hypervisor.model_copy(update={"network": "moving"})})
    xml = desired.domain_xml(host, "qemu", None)
    note = Note(host.name, "qemu", KEY, host.vm.image, spec=shape.hashes(xml))
    with Libvirt(host.hypervisor.uri) as connection:
        network = Network(connection, "moving")
        network.create(
            desired.network_xml("moving", host.vm.ip)
        )  # the driver has no stored definition of networks
        network.reserve(host.vm.mac, str(host.vm.ip), host.vm.hostname)
        domain = Domain.define(connection, xml)
        try:
            domain.write_note(replace(note, have=shape.hashes(domain.xml())).to_xml())
            domain.autostart = True
            domain.start()
            yield host
        finally:
            domain.power_off()
            domain.undefine()
            network.remove()


def test_a_running_guest_is_not_called_ready_at_its_new_address(zap: Host) -> None:
    """Without --restart, the guest keeps its old address, and the last line says when it is reached at the new one."""
    provision(zap, talk()[0])  # pins the key
    speaker, log = talk()
    assert provision(samples.variant(zap, ip="192.168.122.183"), speaker)
    last = "note: zap is reached at 192.168.122.183 from its next start on: "
    assert log.getvalue().splitlines()[-1] == f"{last}./inv stop --host zap, then ./inv start --host zap"
    assert "ready" not in log.getvalue()


def test_an_unfinished_upgrade_goes_when_its_vm_is_made_anew(
    zap: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The unfinished upgrade of a VM that has vanished is forgotten before the new one gets a disk."""
    own = {
        "mac": "52:54:00:01:00:72",
        "ip": "192.168.122.184",
        "disk_path": "/var/lib/libvirt/images/ant.qcow2",
    }
    ant = samples.variant(zap, name="ant", domain="ant", hostname="ant", **own)
    note = Unfinished("1", "2", "", "demo-1.tar.zst", 1.0, ())

    def disk(_: Work) -> None:
        assert unfinished.load("ant") is None
        raise CommandFailed("the pool is full")

    for name in ("zap", "ant"):
        unfinished.save(name, note)
    assert not provisioned(Selection([zap]))[0].error  # its VM is there
    assert unfinished.load("zap") == note
    look = partial(replace, missing=())  # the test driver has no QEMU
    monkeypatch.setattr("swarm.vm.provision.observe", lambda *args: look(observe(*args)))
    for action in Action:
        monkeypatch.setattr(action, "function", disk if action == Action.DISK else lambda _: None)
    assert not provisioned(Selection([ant]), plan_only=True)[0].error
    assert unfinished.load("ant") == note
    capsys.readouterr()
    assert str(provisioned(Selection([ant]))[0].error) == "the pool is full"
    assert "an upgrade 1 → 2 was unfinished: the archive demo-1.tar.zst" in capsys.readouterr().err
