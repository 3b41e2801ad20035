"""The words of a real libvirt and QEMU, as this machine has them: each failure is a sentence with a hint."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING
from urllib.parse import quote

import libvirt as api
import pytest

from swarm import ssh
from swarm.errors import HypervisorError, Unfit
from swarm.hypervisor.connection import Libvirt, translated
from tests.integration.pools import FOLDER
from tests.sshd import USER, Sshd, login_key

if TYPE_CHECKING:
    from pathlib import Path, PurePosixPath

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


@pytest.mark.parametrize(
    ("settings", "known", "cause", "remedy"),
    [
        ("", "the server's", "the hypervisor denies the SSH login", "ssh-add"),
        (
            "MaxAuthTries 1",
            "the server's",
            "the hypervisor's SSH server refuses the login after too many keys",
            "IdentitiesOnly",
        ),
        ("", "", "the hypervisor's SSH host key is unknown or has changed", "check the key"),
        ("", "another", "the hypervisor's SSH host key is unknown or has changed", "check the key"),
        (
            "",
            "long",
            "ssh to the hypervisor fails with a long message, .* host key has changed",
            "log in once",
        ),
    ],
    ids=["key", "too many keys", "unknown host key", "changed host key", "changed host key, long message"],
)
def test_an_ssh_login_that_fails(
    tmp_path: Path, base: Path, settings: str, known: str, cause: str, remedy: str
) -> None:
    """If ssh does not get through to libvirt, its reason and what to do about it are shown."""
    login_key(tmp_path / "id")
    hosts = base / "known" / ("long" * 50 if known == "long" else "short")  # ssh names the file three times
    hosts.parent.mkdir(parents=True, exist_ok=True)
    with Sshd(tmp_path / "sshd", [], settings=settings) as server:
        other = ssh.keypair("other")[1]
        key = {"": "", "another": other, "long": other}.get(known, server.public)
        hosts.write_text(f"[127.0.0.1]:{server.port} {key}\n" if key else "")
        options = (
            f"-F none -o IdentityAgent=none -o IdentitiesOnly=yes -o IdentityFile={tmp_path}/id "
            f"-o UserKnownHostsFile={hosts} -o GlobalKnownHostsFile=/dev/null"
        )
        command = tmp_path / "ssh"
        command.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} {options} "$@"\n')
        command.chmod(0o755)
        uri = f"qemu+ssh://{USER}@127.0.0.1:{server.port}/system?command={quote(str(command))}&no_tty=1"
        with pytest.raises(Unfit, match=cause) as caught:
            Libvirt(uri)
    assert remedy in f"{caught.value.hint}"
