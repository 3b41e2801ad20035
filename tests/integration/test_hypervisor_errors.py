"""libvirt's messages are translated into their meaning and a remedy."""

from __future__ import annotations

import re

import libvirt
import pytest

from swarm.errors import HypervisorError, Unfit
from swarm.hypervisor.connection import Libvirt, translated

# libvirt's message, as in its sources; what it means; and a part of the remedy.
MESSAGES = [
    (
        "operation failed: Unable to find any firmware to satisfy 'efi'",
        "the hypervisor has no UEFI firmware with Secure Boot",
        "ovmf",
    ),
    (
        "operation failed: Unable to find a satisfying virtiofsd",
        "the hypervisor has no virtiofsd",
        "virtiofsd",
    ),
    (
        "internal error: Unable to find 'swtpm_setup' binary in $PATH: No such file or directory",
        "the hypervisor has no software TPM",
        "swtpm-tools",
    ),
    (
        "cannot write data to file '/pool/x': No space left on device",
        "the hypervisor's disk is full",
        "--prune",
    ),
    (
        "unsupported configuration: the virtiofs export directory '/no/share' does not exist",
        "the shared folder /no/share does not exist",
        "virtiofs.source",
    ),
    (
        "Cannot access storage file '/root/x.qcow2' (as uid:64055, gid:64055): Permission denied",
        "QEMU's user cannot access /root/x.qcow2",
        "chmod o+x",
    ),
    (
        "Cannot access storage file '/pool/x.qcow2': No such file or directory",
        "/pool/x.qcow2 does not exist",
        "provision",
    ),
    (
        "Cannot access backing file '/root/b' of storage file '/pool/x' (as uid:64055, gid:64055): Permission denied",
        "QEMU's user cannot access /root/b",
        "chmod o+x",
    ),
    (
        "internal error: Network is already in use by interface eth0",
        "the interface eth0 already uses the libvirt network's addresses",
        "hypervisor.network",
    ),
    (
        "internal error: process exited: cannot set up guest memory 'pc.ram': Cannot allocate memory",
        "the hypervisor does not have enough memory",
        "memory_mib",
    ),
    (
        "authentication unavailable: no polkit agent available to authenticate action 'org.libvirt.unix.manage'",
        "libvirt denies you access",
        "group libvirt",
    ),
    (
        "Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied",
        "libvirt denies you access",
        "group libvirt",
    ),
    (
        "Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory",
        "no libvirt daemon is running on this machine",
        "embedded",
    ),
    (
        "Cannot recv data: Host key verification failed.: Connection reset by peer",
        "the hypervisor's SSH host key is unknown or has changed",
        "log in once",
    ),
    (
        "Cannot recv data: ssh: Could not resolve hostname box: Name or service not known",
        "the host name box cannot be resolved",
        "hypervisor.uri",
    ),
]


@pytest.mark.parametrize(("text", "meaning", "remedy"), MESSAGES)
def test_a_message_becomes_its_meaning_and_a_remedy(text: str, meaning: str, remedy: str) -> None:
    """A known message becomes one sentence with a hint."""
    error = libvirt.libvirtError("x() failed")
    error.err = (libvirt.VIR_ERR_INTERNAL_ERROR, 0, text, 2, None, None, None, -1, -1)
    with pytest.raises(HypervisorError) as caught, translated("starting the VM"):
        raise error
    assert caught.value.message.startswith(f"starting the VM failed: {meaning}")
    assert caught.value.hint
    assert remedy in caught.value.hint


def test_an_unknown_message_is_shown_on_one_line() -> None:
    """An unknown failure is shown as libvirt's own message, without line breaks."""
    error = libvirt.libvirtError("x() failed")
    error.err = (
        libvirt.VIR_ERR_INTERNAL_ERROR,
        0,
        "internal error:\n  odd   thing {braces}",
        2,
        None,
        None,
        None,
        -1,
        -1,
    )
    with pytest.raises(HypervisorError) as caught, translated("starting the VM"):
        raise error
    assert caught.value.message == "starting the VM failed: internal error: odd thing {braces}"


@pytest.mark.parametrize(
    "uri", ["test:///no/such/file.xml", "qemu+unix:///system?socket=/no/such/libvirt-sock"]
)
def test_a_hypervisor_that_cannot_be_reached_is_unfit(uri: str) -> None:
    """A failed connection names the URI."""
    with pytest.raises(Unfit, match=re.escape(f"connecting to {uri} failed")):
        Libvirt(uri)
