"""What libvirt says reaches people as what it means and what to do about it."""

from __future__ import annotations

import re

import libvirt
import pytest

from swarm.errors import HypervisorError, Unfit
from swarm.hypervisor.connection import Libvirt, translated

# libvirt's own words, as its sources have them, and what people are told instead.
WORDS = [
    (
        "operation failed: Unable to find any firmware to satisfy 'efi'",
        "there is no UEFI firmware with Secure Boot",
        "ovmf",
    ),
    ("operation failed: Unable to find a satisfying virtiofsd", "there is no virtiofsd", "virtiofsd"),
    (
        "internal error: Unable to find 'swtpm_setup' binary in $PATH: No such file or directory",
        "there is no software TPM",
        "swtpm-tools",
    ),
    (
        "cannot write data to file '/pool/x': No space left on device",
        "the hypervisor's disk is full",
        "--prune",
    ),
    (
        "unsupported configuration: the virtiofs export directory '/no/share' does not exist",
        "the share /no/share does not exist",
        "virtiofs.source",
    ),
    (
        "Cannot access storage file '/root/x.qcow2' (as uid:64055, gid:64055): Permission denied",
        "QEMU's user cannot reach /root/x.qcow2",
        "chmod o+x",
    ),
    (
        "Cannot access storage file '/pool/x.qcow2': No such file or directory",
        "/pool/x.qcow2 does not exist",
        "provision",
    ),
    (
        "Cannot access backing file '/root/b' of storage file '/pool/x' (as uid:64055, gid:64055): Permission denied",
        "QEMU's user cannot reach /root/b",
        "chmod o+x",
    ),
    (
        "internal error: Network is already in use by interface eth0",
        "the libvirt network's addresses are in use on eth0",
        "hypervisor.network",
    ),
    (
        "internal error: process exited: cannot set up guest memory 'pc.ram': Cannot allocate memory",
        "the hypervisor has not enough memory",
        "memory_mib",
    ),
    (
        "authentication unavailable: no polkit agent available to authenticate action 'org.libvirt.unix.manage'",
        "libvirt does not let you in",
        "group libvirt",
    ),
    (
        "Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied",
        "libvirt does not let you in",
        "group libvirt",
    ),
    (
        "Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory",
        "no libvirt daemon runs on this machine",
        "embedded",
    ),
    (
        "Cannot recv data: Host key verification failed.: Connection reset by peer",
        "the hypervisor's SSH host key is not known, or another one",
        "log in once",
    ),
    (
        "Cannot recv data: ssh: Could not resolve hostname box: Name or service not known",
        "there is no machine called box",
        "hypervisor.uri",
    ),
]


@pytest.mark.parametrize(("words", "meaning", "remedy"), WORDS)
def test_libvirts_words_become_a_sentence_and_a_remedy(words: str, meaning: str, remedy: str) -> None:
    """What libvirt says is told by what it means and what to do about it, never as a traceback."""
    error = libvirt.libvirtError("x() failed")
    error.err = (libvirt.VIR_ERR_INTERNAL_ERROR, 0, words, 2, None, None, None, -1, -1)
    with pytest.raises(HypervisorError) as caught, translated("starting the VM"):
        raise error
    assert caught.value.message.startswith(f"starting the VM failed: {meaning}")
    assert caught.value.hint
    assert remedy in caught.value.hint


def test_words_that_nobody_expected_are_told_as_they_are() -> None:
    """An unknown failure is libvirt's own message on one line."""
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
    """Connecting in vain is told with the address that was tried."""
    with pytest.raises(Unfit, match=re.escape(f"connecting to {uri} failed")):
        Libvirt(uri)
