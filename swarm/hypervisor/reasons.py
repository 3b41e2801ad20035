"""The one table that turns messages of libvirt, and of QEMU, ssh and swtpm within them, into a cause and a hint."""

from __future__ import annotations

import re
from typing import NamedTuple

from swarm.text import visible

__all__ = ["explain"]

_LONGEST = 64 * 1024  # characters of a message that are looked at; QEMU's own output can be part of it
_SHOWN = 500  # characters that are shown of a message without a reason

_SOCKET = r"(libvirt|virtqemud|virtproxyd)-sock"
_GROUP = "join the group libvirt (sudo adduser $USER libvirt, then log in again)"
_SEARCHABLE = "make every folder above it searchable (chmod o+x); ./inv doctor names the one that is not"
_QEMU = "install the package qemu-system-x86 on the hypervisor, then restart libvirt there"
_TPM = "install the packages swtpm and swtpm-tools on the hypervisor"
_FIREWALL = (
    "restart the firewall and then libvirt there (sudo systemctl restart libvirtd); "
    "after an upgrade of the kernel, restart the hypervisor"
)
_URI = "check hypervisor.uri in the host file"
_KVM = "./inv doctor names the cause; hypervisor.acceleration: emulation in the host file does without KVM"


class _Reason(NamedTuple):
    """A pattern of libvirt's message, what it means, and the hint. Both may name the pattern's groups."""

    pattern: str
    meaning: str
    hint: str


# The first match counts, so that a special case stands before a general one.
_REASONS = (
    # The parts of the hypervisor
    _Reason(
        r"Unable to find any firmware|Unable to find .*efi",
        "the hypervisor has no UEFI firmware with Secure Boot",
        "install the package ovmf on the hypervisor",
    ),
    _Reason(
        r"Unable to find a satisfying virtiofsd|virtiofsd.*not found",
        "the hypervisor has no virtiofsd",
        "install the package virtiofsd (Debian 12: qemu-system-common) on the hypervisor",
    ),
    _Reason(
        r"Unable to find 'swtpm|swtpm\w* is not an executable|TPM version '?\S+'? is not supported",
        "the hypervisor has no software TPM",
        _TPM,
    ),
    _Reason(
        r"Could not run '?\S*swtpm_setup|swtpm (died|didn't show up|socket did not show up)|process id of swtpm"
        r"|cannot execute binary '?\S*swtpm",
        "the software TPM does not start",
        "read the newest file in /var/log/swtpm/libvirt/qemu on the hypervisor; "
        "the folder /var/lib/swtpm-localca must belong to the user of swtpm",
    ),
    _Reason(
        r"Unable to find '(?P<what>[^']+)' binary in \$PATH",
        "the hypervisor has no {what}",
        "install the package that contains {what} there (for dnsmasq: dnsmasq-base)",
    ),
    _Reason(
        r"does not support machine type '?(?P<what>[^'\s,]+)|unsupported machine type:? '?(?P<other>[^'\s,]+)",
        "the hypervisor's QEMU has no machine type {what}",
        "upgrade QEMU on the hypervisor, or write machine='q35' into the definition (virsh edit DOMAIN)",
    ),
    _Reason(
        r"(Cannot check )?QEMU binary (?P<what>[^\s:]+)( is not executable)?:"
        r"|(cannot execute binary|cannot find emulator) '?(?P<other>[^\s:']*(qemu|kvm)[^\s:']*)",
        "the hypervisor's emulator {what} is gone or cannot be run",
        _QEMU,
    ),
    _Reason(
        r"(Cannot find|no) (a )?suitable emulator|No emulator found for arch"
        r"|could not find capabilities for (arch|ostype|machine)"
        r"|unknown OS type '?hvm",
        "the hypervisor has no QEMU for x86_64",
        _QEMU,
    ),
    _Reason(
        r"could not find capabilities for domaintype=kvm|does not support virt type '?kvm"
        r"|Could not access KVM kernel module"
        r"|failed to initialize kvm|invalid accelerator '?kvm|System Management Mode not supported",
        "KVM does not work on the hypervisor",
        _KVM,
    ),
    _Reason(
        r"(CPU mode|host-passthrough)[^\n]*not supported|CPU is incompatible|doesn't support requested feature",
        "the hypervisor's processor cannot do what the VM's definition asks for",
        _KVM,
    ),
    # Disks and folders
    _Reason(
        r"Failed to get \"?(write|shared \"?write)\"? lock|Is another process using the image",
        "another process has the VM's disk open",
        "stop the other VM or program that uses the file (sudo fuser -v FILE, on the hypervisor)",
    ),
    _Reason(
        r"No space left on device",
        "the hypervisor's disk is full",
        "free some space there; ./inv images --prune removes base images that no VM uses",
    ),
    _Reason(
        r"Disk quota exceeded",
        "the disk quota on the hypervisor is used up",
        "free some space there, or raise the quota of QEMU's user",
    ),
    _Reason(
        r"Read-only file system",
        "the hypervisor's file system is read-only",
        "find out why on the hypervisor (sudo dmesg); a damaged file system is often mounted read-only",
    ),
    _Reason(
        r"the virtiofs export directory '(?P<what>[^']+)' does not exist",
        "the shared folder {what} does not exist on the hypervisor",
        "make the folder, or correct vm.virtiofs.source in the host file",
    ),
    _Reason(
        r"Cannot access (storage|backing) file '(?P<what>[^']+)'.*No such file",
        "{what} does not exist",
        "restore the file, or destroy the VM and provision it again",
    ),
    _Reason(
        r"Cannot access (storage|backing) file '(?P<what>[^']+)'",
        "QEMU's user cannot access {what}",
        _SEARCHABLE,
    ),
    _Reason(
        r"cannot open directory '(?P<what>[^']+)'.*No such file",
        "the folder {what} does not exist on the hypervisor",
        "mount its file system or make the folder there, then run the command again",
    ),
    _Reason(
        r"cannot open directory '(?P<what>[^']+)'|cannot create path '(?P<other>[^']+)'",
        "libvirt cannot use the folder {what} on the hypervisor",
        "check its type and permissions there, or change vm.disk_path in the host file",
    ),
    _Reason(
        r"storage pool '(?P<what>[^']+)' is not active",
        "the storage pool {what} is stopped",
        "start it on the hypervisor: virsh pool-start {what}",
    ),
    _Reason(
        r"pool '(?P<what>[^']+)' has asynchronous jobs running",
        "somebody else is making a volume in the storage pool {what}",
        "wait until that is done, and run the command again",
    ),
    _Reason(
        r"Storage source conflict with pool: '(?P<what>[^']+)'",
        "the storage pool {what} already has this folder, under another path",
        "write that pool's path into vm.disk_path: virsh pool-dumpxml {what}",
    ),
    _Reason(
        r"not in qcow2 format|Image is corrupt|qcow2: Marking image as corrupt",
        "the VM's disk is damaged",
        "stop the VM and check it on the hypervisor (qemu-img check FILE), or restore a backup: ./inv restore",
    ),
    # Confinement
    _Reason(
        r"cannot (load|update) AppArmor profile '(?P<what>[^']+)'",
        "AppArmor on the hypervisor has no usable profile for the VM",
        "sudo journalctl -u libvirtd there has virt-aa-helper's reason; install the package apparmor, "
        "or delete a leftover /etc/apparmor.d/libvirt/{what}",
    ),
    _Reason(
        r"unable to set AppArmor profile|aa_change_profile",
        "AppArmor on the hypervisor does not let libvirt confine QEMU",
        "restart both there: sudo systemctl restart apparmor libvirtd",
    ),
    _Reason(
        r"AppArmor profile",
        "AppArmor on the hypervisor does not let QEMU run or open a file",
        "sudo aa-status and sudo journalctl -k --grep apparmor, on the hypervisor, name the rule; "
        "a disk in /var/lib/libvirt/images is always allowed",
    ),
    _Reason(
        r"unable to set security context '[^']*' on '(?P<what>[^']+)': Operation not permitted",
        "libvirt cannot change the SELinux label of {what}",
        "on the hypervisor, make the file changeable (sudo lsattr FILE, sudo chattr -i FILE); "
        "a file on NFS needs no_root_squash on its server, or another vm.disk_path",
    ),
    _Reason(
        r"unable to set security context|SELinux (security )?(context|label)",
        "SELinux on the hypervisor does not let libvirt or QEMU use a file",
        "sudo ausearch -m avc -ts recent there names it, and sudo restorecon -Rv FOLDER resets its label; "
        "a disk in /var/lib/libvirt/images is always allowed",
    ),
    _Reason(
        r"Could not open '(?P<what>[^']+)': Permission denied",
        "QEMU is not allowed to open {what}",
        "sudo journalctl -b --grep denied, on the hypervisor, tells whether AppArmor or SELinux forbids it "
        "(NFS under SELinux: sudo setsebool -P virt_use_nfs on); if neither, check the file's owner and mode",
    ),
    # Networks
    _Reason(
        r"Network is already in use by interface (?P<what>\S+)",
        "the interface {what} already uses the libvirt network's addresses",
        "free those addresses, or change hypervisor.network in the host file",
    ),
    _Reason(
        r"bridge name '?(?P<what>[^'\s]+)'? already in use|creating bridge interface (?P<other>\S+): File exists",
        "another network already uses the bridge {what}",
        "stop that network, or give this one another bridge (virsh net-edit NETWORK)",
    ),
    _Reason(
        r"network '(?P<what>[^']+)' is not active",
        "the libvirt network {what} is stopped",
        "./inv start starts it; by hand: virsh net-start {what}",
    ),
    _Reason(
        r"no network with matching name '(?P<what>[^']+)'",
        "the hypervisor has no network {what}",
        "define it (virsh net-define), or change hypervisor.network in the host file",
    ),
    _Reason(
        r"failed to create listening socket for (?P<what>[\d.:a-f]+).*Address already in use",
        "another DNS or DHCP server on the hypervisor already uses {what}",
        "stop it, or have it leave libvirt's bridge alone (dnsmasq: except-interface=virbr0)",
    ),
    _Reason(  # libvirt keeps this failure until it restarts
        r"Failed to apply firewall .*(cannot execute binary|cannot find '\S+' in path)|firewall backend",
        "libvirt cannot run iptables or nft on the hypervisor",
        "install the package iptables (or nftables) there and restart libvirt: sudo systemctl restart libvirtd",
    ),
    _Reason(
        r"Failed to apply firewall (rules|command) .*?: (?P<what>[^\n]+)",
        "the hypervisor's firewall rejects libvirt's rules: {what}",
        _FIREWALL,
    ),
    _Reason(r"Failed to apply firewall", "the hypervisor's firewall rejects libvirt's rules", _FIREWALL),
    _Reason(
        r"/dev/net/tun",
        "the hypervisor has no /dev/net/tun, which connects VMs to a network",
        "load its module there: sudo modprobe tun",
    ),
    # Memory and locks
    _Reason(
        r"Cannot allocate memory|cannot set up guest memory",
        "the hypervisor does not have enough memory",
        "lower vm.memory_mib in the host file, or stop another VM",
    ),
    _Reason(
        r"cannot acquire state change lock",
        "another operation on this VM has not ended",
        "wait for it and run the command again; if it hangs: sudo systemctl restart libvirtd, VMs keep running",
    ),
    # The way to libvirt
    _Reason(
        r"Too many authentication failures",
        "the hypervisor's SSH server refuses the login after too many keys",
        "name the right key for it in ~/.ssh/config: IdentityFile FILE and IdentitiesOnly yes",
    ),
    _Reason(
        r"Permission denied \((publickey|password|keyboard|gssapi|hostbased)[^)]*\)",
        "the hypervisor denies the SSH login",
        "load a key that may log in there (ssh-add), and check the user in hypervisor.uri",
    ),
    _Reason(
        r"Value too large for defined data type",  # the kilobyte that libvirt reads of ssh's messages is full
        "ssh to the hypervisor fails with a long message, as it does if the SSH host key has changed",
        "log in once with ssh, read its message, and run the command again",
    ),
    _Reason(
        r"Host key verification failed",
        "the hypervisor's SSH host key is unknown or has changed",
        "log in once with ssh, check the key, and run the command again",
    ),
    _Reason(
        r"Could not resolve hostname (?P<what>\S+?):|unable to resolve address '?(?P<other>[^'\s]+)",
        "the host name {what} cannot be resolved",
        _URI,
    ),
    _Reason(
        r"(virt-ssh-helper|nc|netcat|virsh): (command )?not found",
        "the hypervisor has no program that connects SSH to libvirt",
        "install the packages libvirt-daemon-system and netcat-openbsd there",
    ),
    _Reason(
        r"(connect to host (?P<what>\S+) port|unable to connect to server at '(?P<other>[^']+)')"
        r".*(refused|timed out|No route to host|unreachable)",
        "the hypervisor {what} does not answer",
        f"check that it runs and that its server may be reached; {_URI}",
    ),
    _Reason(
        r"\bTLS\b|certificate|/pki/",
        "the TLS connection to the hypervisor fails because of a certificate",
        "install libvirt's certificates on both machines (virt-pki-validate checks them), or use qemu+ssh://",
    ),
    _Reason(r"authentication (failed|unavailable)|polkit", "libvirt denies you access", _GROUP),
    _Reason(
        rf"Permission denied.*{_SOCKET}|{_SOCKET}.*Permission denied",
        "libvirt denies you access",
        _GROUP,
    ),
    _Reason(
        rf"{_SOCKET}'?: (No such file|Connection refused)",
        "no libvirt daemon is running on this machine",
        "start it (sudo systemctl enable --now libvirtd), or set hypervisor.uri: embedded in the host file",
    ),
    _Reason(
        r"virt(log|lock)d-(admin-)?sock",
        "libvirt's helper virtlogd or virtlockd does not run on the hypervisor",
        "start it there: sudo systemctl enable --now virtlogd.socket virtlockd.socket",
    ),
    _Reason(
        r"End of file while reading data|client socket is closed|keepalive timeout|Broken pipe|hangup"
        r"|Connection reset by peer",
        "the connection to libvirt broke",
        "check that libvirt runs on the hypervisor (systemctl status libvirtd), then run the command again",
    ),
)


def explain(message: str) -> tuple[str, str]:
    """Return the cause in one sentence, and a hint, for a message of libvirt's. An unknown one is shown in one line."""
    text = message[:_LONGEST]
    for reason in _REASONS:
        if match := re.search(reason.pattern, text, re.IGNORECASE | re.DOTALL):
            found = match.groupdict()
            what = visible(found.get("what") or found.get("other") or "", lines=False)[:_SHOWN]
            return reason.meaning.format(what=what), reason.hint.format(what=what)
    shown = visible(" ".join(text.split()), lines=False)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]} …"
    return (
        shown or "libvirt gave no reason",
        "this is libvirt's own message; check the hypervisor: ./inv doctor",
    )
