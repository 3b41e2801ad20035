"""libvirt's messages on a machine that lacks a program, or forbids something: each is a cause with a hint."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import libvirt as api
import pytest

from swarm.errors import HypervisorError
from swarm.hypervisor.connection import Libvirt, translated
from tests.integration.libvirtd import second_libvirtd
from tests.integration.test_hypervisor_words import disk, domain

if TYPE_CHECKING:
    from swarm.embedded import Embedded
    from swarm.hypervisor.storage import Volume

_TPM = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
_NETWORK = """<network><name>b</name><forward mode='nat'/><bridge name='virbr77'/>
    <ip address='192.168.177.1' netmask='255.255.255.0'/></network>"""
_HIDE = "mount --bind /dev/null $(command -v {})"  # no longer a program that is found in $PATH

# A swtpm_setup that always succeeds, and a program that always fails.
_SETUP = """cat >/run/libvirt/setup <<'END'
#!/bin/sh
echo '{"type": "swtpm_setup", "features": ["tpm-2.0"]}'
END
chmod 755 /run/libvirt/setup
mount --bind /run/libvirt/setup $(command -v swtpm_setup)"""
_BROKEN = """printf '#!/bin/sh\\necho refused >&2\\nexit 1\\n' >/run/libvirt/broken
chmod 755 /run/libvirt/broken
mount --bind /run/libvirt/broken $(readlink -f $(command -v {}))"""

# AppArmor as libvirt sees it, without the part of the kernel. The program that loads profiles is /bin/true or false.
_HELPER = Path("/usr/lib/libvirt/virt-aa-helper")
_APPARMOR = f"""mount -t tmpfs tmpfs /sys/kernel
mkdir -p /sys/kernel/security/apparmor
echo "libvirtd (enforce)" >/sys/kernel/security/apparmor/profiles
echo "$(command -v libvirtd) (enforce)" >>/sys/kernel/security/apparmor/profiles
mount --bind /bin/{{}} {_HELPER}"""


def need(*programs: str) -> None:
    """Skip the test unless the machine has what the test is going to take away."""
    for name in programs:
        if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
            pytest.skip(f"{name} is not installed")


def refusal(uri: str, xml: str) -> tuple[str, str]:
    """Return the cause and the hint with which libvirt at `uri` refuses to start the domain or network `xml`."""
    with Libvirt(uri) as made:
        start = made.raw.networkCreateXML if xml.startswith("<network") else made.raw.createXML
        with pytest.raises(HypervisorError) as caught, translated("starting it"):
            start(xml)
    assert caught.value.hint
    return caught.value.message.removeprefix("starting it failed: "), caught.value.hint


@pytest.mark.parametrize("program", ["swtpm", "swtpm_setup"])
def test_a_missing_software_tpm(embedded: Embedded, tmp_path: Path, program: str) -> None:
    """Without swtpm or swtpm_setup, a VM with a TPM is refused with the packages to install."""
    need("swtpm", "swtpm_setup")
    with second_libvirtd(embedded, tmp_path, _HIDE.format(program)) as uri:
        cause, hint = refusal(uri, domain("a", devices=_TPM))
    assert cause == "the hypervisor has no software TPM"
    assert "swtpm-tools" in hint


@pytest.mark.parametrize(
    "change",
    ["mount -t tmpfs -o ro tmpfs /var/lib/swtpm-localca", f"{_SETUP}\n{_BROKEN.format('swtpm')}"],
    ids=["certificates", "program"],
)
def test_a_software_tpm_that_does_not_start(embedded: Embedded, tmp_path: Path, change: str) -> None:
    """If swtpm_setup cannot write its certificates, or swtpm fails, the hint names the log to read."""
    need("swtpm", "swtpm_setup")
    with second_libvirtd(embedded, tmp_path, change) as uri:
        cause, hint = refusal(uri, domain("a", devices=_TPM))
    assert cause == "the software TPM does not start"
    assert "/var/log/swtpm/libvirt/qemu" in hint


@pytest.mark.parametrize(
    ("change", "cause", "remedy"),
    [
        (
            "mount -t tmpfs tmpfs /etc/alternatives",  # Debian's iptables is a link to there
            "libvirt cannot run iptables or nft on the hypervisor",
            "install the package iptables",
        ),
        (
            _HIDE.format("iptables"),
            "libvirt cannot run iptables or nft on the hypervisor",
            "install the package iptables",
        ),
        (
            _BROKEN.format("iptables"),
            "the hypervisor's firewall rejects libvirt's rules: refused",
            "restart the firewall",
        ),
        (
            "mount --bind /bin/false $(readlink -f $(command -v iptables))",
            "the hypervisor's firewall rejects libvirt's rules",
            "restart the firewall",
        ),
        (_HIDE.format("dnsmasq"), "the hypervisor has no dnsmasq", "dnsmasq-base"),
    ],
    ids=["no iptables", "iptables must not run", "iptables fails", "iptables is silent", "no dnsmasq"],
)
def test_a_network_that_cannot_start(
    embedded: Embedded, tmp_path: Path, change: str, cause: str, remedy: str
) -> None:
    """A network that iptables or dnsmasq keeps from starting is refused with that program's name, or its message."""
    if change.endswith("/etc/alternatives") and not Path("/etc/alternatives/iptables").exists():
        pytest.skip("iptables is not one of this system's alternatives")
    need("iptables")
    with second_libvirtd(embedded, tmp_path, change) as uri:
        found, hint = refusal(uri, _NETWORK)
    assert found == cause
    assert remedy in hint


@pytest.mark.parametrize(
    ("helper", "cause", "remedy"),
    [
        (
            "false",
            "AppArmor on the hypervisor has no usable profile for the VM",
            "/etc/apparmor.d/libvirt/libvirt-",
        ),
        (
            "true",
            "AppArmor on the hypervisor does not let libvirt confine QEMU",
            "systemctl restart apparmor",
        ),
    ],
    ids=["not loaded", "not entered"],
)
def test_a_profile_of_apparmor_that_cannot_be_used(
    embedded: Embedded, tmp_path: Path, helper: str, cause: str, remedy: str
) -> None:
    """If AppArmor does not load a VM's profile, or the kernel does not know it, the hint tells how to get it there."""
    if not _HELPER.exists():
        pytest.skip("this libvirt is built without AppArmor")
    with second_libvirtd(embedded, tmp_path, _APPARMOR.format(helper), driver="apparmor") as uri:
        found, hint = refusal(uri, domain("a"))
    assert found == cause
    assert remedy in hint


def test_a_disk_that_qemu_is_not_allowed_to_open(libvirt: Libvirt, base_volume: Volume) -> None:
    """A disk that QEMU's user cannot open is named, with how to find out what forbids it."""
    kept = "<seclabel model='dac' relabel='no'/></source>"  # as with dynamic_ownership = 0
    device = disk(base_volume.path).replace("'/><target", f"'>{kept}<target")
    for _ in range(10):  # on a busy machine, libvirt may look for QEMU's words before they are written
        with pytest.raises(HypervisorError) as caught, translated("starting the VM"):
            libvirt.raw.createXML(domain("a", devices=device), api.VIR_DOMAIN_START_PAUSED)
        if not caught.value.message.endswith("closed the monitor"):
            break
    assert f"QEMU is not allowed to open {base_volume.path}" in caught.value.message
    assert "journalctl" in f"{caught.value.hint}"
