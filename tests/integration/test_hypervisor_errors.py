"""libvirt's messages are translated into their meaning and a remedy."""

from __future__ import annotations

import re

import libvirt
import pytest

from swarm.errors import HypervisorError, Unfit
from swarm.hypervisor.connection import Libvirt, translated
from swarm.hypervisor.reasons import explain

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
        "internal error: pool 'images' has asynchronous jobs running.",
        "somebody else is making a volume in the storage pool images",
        "run the command again",
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
        "Cannot recv data: ssh: Could not resolve hostname box: Name or service not known",
        "the host name box cannot be resolved",
        "hypervisor.uri",
    ),
    (
        "unsupported configuration: Emulator '/usr/bin/qemu-system-x86_64' does not support machine type 'pc-q35-9.2'",
        "the hypervisor's QEMU has no machine type pc-q35-9.2",
        "virsh edit",
    ),
    (
        (
            "internal error: process exited while connecting to monitor: qemu-system-x86_64: unsupported machine type "
            "'pc-q35-9.2'\nUse -machine help to list supported machines"
        ),
        "the hypervisor's QEMU has no machine type pc-q35-9.2",
        "upgrade QEMU",
    ),
    (
        "Cannot check QEMU binary /usr/bin/qemu-system-x86_64: No such file or directory",
        "the hypervisor's emulator /usr/bin/qemu-system-x86_64 is gone or cannot be run",
        "qemu-system-x86",
    ),
    (
        "QEMU binary /usr/bin/qemu-system-x86_64 is not executable: Permission denied",
        "the hypervisor's emulator /usr/bin/qemu-system-x86_64 is gone or cannot be run",
        "qemu-system-x86",
    ),
    (
        "unsupported configuration: No emulator found for arch 'x86_64'",
        "the hypervisor has no QEMU for x86_64",
        "qemu-system-x86",
    ),
    (
        "unsupported configuration: Emulator '/usr/bin/qemu-system-x86_64' does not support virt type 'kvm'",
        "KVM does not work on the hypervisor",
        "./inv doctor",
    ),
    (
        "invalid argument: could not find capabilities for arch=x86_64 ",
        "the hypervisor has no QEMU for x86_64",
        "qemu-system-x86",
    ),
    (
        "invalid argument: could not find capabilities for domaintype=kvm ",
        "KVM does not work on the hypervisor",
        "./inv doctor",
    ),
    (
        (
            "internal error: process exited while connecting to monitor: Could not access KVM kernel module: "
            "Permission denied\nqemu-system-x86_64: failed to initialize kvm: Permission denied"
        ),
        "KVM does not work on the hypervisor",
        "acceleration: emulation",
    ),
    (
        (
            "internal error: process exited while connecting to monitor: qemu-system-x86_64: -device virtio-blk-pci: "
            'Failed to get "write" lock\nIs another process using the image [/pool/x.qcow2]?'
        ),
        "another process has the VM's disk open",
        "fuser",
    ),
    (
        "Cannot recv data: ann@box: Permission denied (publickey,password).: Connection reset by peer",
        "the hypervisor denies the SSH login",
        "ssh-add",
    ),
    (
        "Cannot recv data: ssh: connect to host box port 22: Connection refused: Connection reset by peer",
        "the hypervisor box does not answer",
        "hypervisor.uri",
    ),
    (
        "unable to connect to server at 'box:16514': No route to host",
        "the hypervisor box:16514 does not answer",
        "hypervisor.uri",
    ),
    (
        "End of file while reading data: sh: 1: nc: not found: Input/output error",
        "the hypervisor has no program that connects SSH to libvirt",
        "netcat-openbsd",
    ),
    (
        "Cannot read CA certificate '/etc/pki/CA/cacert.pem': No such file or directory",
        "the TLS connection to the hypervisor fails because of a certificate",
        "virt-pki-validate",
    ),
    (
        "Failed to connect socket to '/srv/apparmor-selinux/libvirt-sock': Connection refused",
        "no libvirt daemon is running on this machine",
        "libvirtd",
    ),
    (
        "Failed to connect socket to '/var/run/libvirt/virtqemud-sock': No such file or directory",
        "no libvirt daemon is running on this machine",
        "libvirtd",
    ),
    (
        "Failed to connect socket to '/var/run/libvirt/virtlogd-sock': No such file or directory",
        "libvirt's helper virtlogd or virtlockd does not run on the hypervisor",
        "virtlogd.socket",
    ),
    (
        "End of file while reading data: Input/output error",
        "the connection to libvirt broke",
        "systemctl status libvirtd",
    ),
    (
        "internal error: bridge name 'virbr0' already in use.",
        "another network already uses the bridge virbr0",
        "net-edit",
    ),
    (
        "Requested operation is not valid: network 'default' is not active",
        "the libvirt network default is stopped",
        "virsh net-start default",
    ),
    (
        "Network not found: no network with matching name 'lab'",
        "the hypervisor has no network lab",
        "net-define",
    ),
    (
        (
            "internal error: Child process (dnsmasq) unexpected exit status 2: \ndnsmasq: failed to create listening "
            "socket for 192.168.122.1: Address already in use"
        ),
        "another DNS or DHCP server on the hypervisor already uses 192.168.122.1",
        "except-interface",
    ),
    (
        "Unable to open /dev/net/tun, is tun module loaded?: No such file or directory",
        "the hypervisor has no /dev/net/tun",
        "modprobe tun",
    ),
    (
        "Timed out during operation: cannot acquire state change lock (held by monitor=remoteDispatchDomainCreate)",
        "another operation on this VM has not ended",
        "run the command again",
    ),
    (
        "cannot open directory '/pool': No such file or directory",
        "the folder /pool does not exist on the hypervisor",
        "mount its file system",
    ),
    (
        "cannot create path '/proc/x': Operation not permitted",
        "libvirt cannot use the folder /proc/x on the hypervisor",
        "vm.disk_path",
    ),
    (
        "Requested operation is not valid: storage pool 'images' is not active",
        "the storage pool images is stopped",
        "virsh pool-start images",
    ),
    (
        "operation failed: Storage source conflict with pool: 'images'",
        "the storage pool images already has this folder",
        "virsh pool-dumpxml images",
    ),
    (
        "internal error: process exited: Image is not in qcow2 format",
        "the VM's disk is damaged",
        "qemu-img check",
    ),
    (
        "cannot write data to file '/pool/x': Read-only file system",
        "the hypervisor's file system is read-only",
        "dmesg",
    ),
    (
        "cannot write data to file '/pool/x': Disk quota exceeded",
        "the disk quota on the hypervisor is used up",
        "quota",
    ),
    (
        "unsupported configuration: CPU mode 'host-passthrough' for x86_64 qemu domain is not supported by hypervisor",
        "the hypervisor's processor cannot do what the VM's definition asks for",
        "acceleration",
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


def test_a_message_is_cut_and_shows_no_control_characters() -> None:
    """What QEMU wrote, in any length and with anything in it, is one line of at most a few hundred characters."""
    for text in (
        "x\x1b[31m" + "y" * 10_000_000,
        "no network with matching name '\x1b]0;" + "y" * 10_000 + "'",
    ):
        for part in explain(text):
            assert len(part) < 700
            assert part.isprintable()
    assert explain(" \n")[0] == "libvirt gave no reason"


@pytest.mark.parametrize(
    "uri", ["test:///no/such/file.xml", "qemu+unix:///system?socket=/no/such/libvirt-sock"]
)
def test_a_hypervisor_that_cannot_be_reached_is_unfit(uri: str) -> None:
    """A failed connection names the URI."""
    with pytest.raises(Unfit, match=re.escape(f"connecting to {uri} failed")):
        Libvirt(uri)
