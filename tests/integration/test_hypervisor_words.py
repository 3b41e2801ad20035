"""The words of a real libvirt and QEMU, as this machine has them: each failure is a sentence with a hint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libvirt as api
import pytest

from swarm.errors import HypervisorError, Unfit
from swarm.hypervisor.connection import Libvirt, translated
from tests.integration.pools import FOLDER

if TYPE_CHECKING:
    from pathlib import PurePosixPath

    from swarm.hypervisor.network import Network
    from swarm.hypervisor.storage import Pool, Volume

_OWN = "this is libvirt's own message"


def domain(name: str, *, machine: str = "q35", devices: str = "", memory: str = "32") -> str:
    """Return the XML of a small domain."""
    return f"""<domain type='qemu'><name>{name}</name><memory unit='MiB'>{memory}</memory>
        <os><type arch='x86_64' machine='{machine}'>hvm</type></os><devices>{devices}</devices></domain>"""


def disk(path: PurePosixPath | str) -> str:
    """Return the XML of a disk."""
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{path}'/>"
        "<target dev='vda'/></disk>"
    )


@pytest.mark.parametrize(
    ("xml", "cause"),
    [
        (domain("a", machine="pc-q35-99.0"), "the hypervisor's QEMU has no machine type pc-q35-99.0"),
        (
            domain("a", devices="<emulator>/usr/bin/gone</emulator>"),
            "the hypervisor's emulator /usr/bin/gone is gone",
        ),
        (domain("a", devices=disk(FOLDER / "gone.qcow2")), f"{FOLDER}/gone.qcow2 does not exist"),
        (
            domain("a", devices="<interface type='network'><source network='gone'/></interface>"),
            "the hypervisor has no network gone",
        ),
        (domain("a", memory="9000000000"), "the hypervisor does not have enough memory"),
    ],
    ids=["machine type", "emulator", "disk", "network", "memory"],
)
def test_a_vm_that_cannot_start(libvirt: Libvirt, pool: Pool, xml: str, cause: str) -> None:
    """What a definition asks for in vain is named, with what to do."""
    assert pool.raw.isActive()
    with (
        pytest.raises(HypervisorError, match="starting the VM failed: ") as caught,
        translated("starting the VM"),
    ):
        libvirt.raw.createXML(xml, api.VIR_DOMAIN_START_PAUSED)
    assert cause in caught.value.message
    assert caught.value.hint
    assert _OWN not in caught.value.hint


def test_a_disk_that_another_process_has_open(libvirt: Libvirt, base_volume: Volume) -> None:
    """QEMU's lock on a disk image is told as such."""
    first = libvirt.raw.createXML(domain("a", devices=disk(base_volume.path)), api.VIR_DOMAIN_START_PAUSED)
    try:
        with (
            pytest.raises(HypervisorError, match="another process has the VM's disk open"),
            translated("starting"),
        ):
            libvirt.raw.createXML(domain("b", devices=disk(base_volume.path)), api.VIR_DOMAIN_START_PAUSED)
    finally:
        first.destroy()


def test_addresses_that_another_network_has(libvirt: Libvirt, network: Network) -> None:
    """A second network with the addresses, or the bridge, of a running one is refused with a sentence."""
    assert network.active
    xml = "<network><name>b</name><bridge name='{bridge}'/><ip address='{ip}' netmask='255.255.255.0'/></network>"
    bridge = network.raw.bridgeName()
    for found, cause in (
        (xml.format(bridge="virbr77", ip="192.168.122.1"), f"the interface {bridge} already uses"),
        (xml.format(bridge=bridge, ip="192.168.177.1"), f"another network already uses the bridge {bridge}"),
    ):
        with pytest.raises(HypervisorError, match=cause), translated("starting the network b"):
            libvirt.raw.networkCreateXML(found)


@pytest.mark.parametrize(
    ("uri", "cause"),
    [
        ("qemu+ssh://127.0.0.1:1/system", "the hypervisor 127.0.0.1 does not answer"),
        ("qemu+tcp://127.0.0.1:1/system", "the hypervisor 127.0.0.1:1 does not answer"),
        ("qemu+tls://127.0.0.1:1/system?pkipath=/nowhere", "because of a certificate"),
    ],
)
def test_a_hypervisor_that_is_not_there(uri: str, cause: str) -> None:
    """The way to a remote libvirt is a way with sentences too."""
    with pytest.raises(Unfit, match=cause) as caught:
        Libvirt(uri)
    assert _OWN not in f"{caught.value.hint}"
