"""What doctor checks for a host depends on where its hypervisor is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from swarm import inventory
from swarm.hypervisor.connection import Libvirt
from swarm.hypervisor.network import Network
from swarm.vm.desired import network_xml
from swarm.vm.doctor import examine
from tests import samples
from tests.integration.libvirtd import second_libvirtd

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.embedded import Embedded
    from tests.conftest import Dirs

VPS = """hypervisor: {{uri: none}}
machine: {{address: 203.0.113.7, hostname: claw}}
drill: {{hypervisor: "{uri}"}}
backup: {{destinations: ["file:///srv/archives/"]}}
"""


@pytest.mark.parametrize(
    ("uri", "local"),
    [
        ("qemu+tls://127.0.0.1:1/system", False),
        ("qemu+unix:///system?socket=/no/such/socket", True),
    ],
)
def test_only_a_local_hypervisor_needs_local_programs(dirs: Dirs, uri: str, local: bool) -> None:  # noqa: FBT001
    """KVM, programs and firmware of this machine are checked only if a VM runs on it."""
    assert dirs.hosts.is_dir()
    found = examine([samples.host(uri=uri, source="/srv/share")])
    about = [finding.what for finding in found if "KVM" in finding.what or "virtiofsd" in finding.what]
    assert bool(about) is local
    assert any(uri in finding.what for finding in found if finding.level == "failure")


def test_a_drill_needs_no_address_of_its_own(dirs: Dirs, embedded: Embedded, tmp_path: Path) -> None:
    """A drill's VM gets a free address of whatever network is there, so no subnet is wrong for it."""
    with second_libvirtd(embedded, tmp_path, "true") as uri:
        with Libvirt(uri) as connection:
            xml = network_xml("default").replace("192.168.122.", "192.168.77.")
            Network(connection, "default").define(xml)
        (dirs.hosts / "claw.yaml").write_text(VPS.format(uri=uri), encoding="utf-8")
        found = examine([inventory.load("claw")])
        own = examine([samples.host(uri=f'"{uri}"', source=str(tmp_path))])
    assert any(f"{uri}: works" in finding.what for finding in found)
    assert not any("is outside the network" in finding.what for finding in found)
    assert any("is outside the network" in finding.what for finding in own)
