"""libvirt's messages that need another kernel, distribution or version. Each names its source or a report of it."""

from __future__ import annotations

import pytest

from swarm.hypervisor.reasons import explain


@pytest.mark.parametrize(
    ("text", "cause", "remedy"),
    [
        # Reported: void-linux/void-packages 31904, with libvirt 7.5
        (
            "internal error: cannot load AppArmor profile 'libvirt-aa58ea57-f6d7-48b1-b727-de97f4c508af'",
            "AppArmor on the hypervisor has no usable profile for the VM",
            "/etc/apparmor.d/libvirt/libvirt-aa58ea57-f6d7-48b1-b727-de97f4c508af",
        ),
        # libvirt 9.0, src/security/security_apparmor.c, profile_status(); cockpit-project/cockpit-machines 1478
        (
            "Failed to read AppArmor profiles list '/sys/kernel/security/apparmor/profiles': Permission denied",
            "AppArmor on the hypervisor does not let QEMU run or open a file",
            "aa-status",
        ),
        # libvirt 9.0, src/security/security_selinux.c, virSecuritySELinuxSetFileconImpl()
        (
            (
                "unable to set security context 'system_u:object_r:svirt_image_t:s0:c1,c2' on '/pool/x.qcow2': "
                "Operation not permitted"
            ),
            "libvirt cannot change the SELinux label of /pool/x.qcow2",
            "lsattr",
        ),
        (
            (
                "unable to set security context 'system_u:object_r:svirt_image_t:s0:c1,c2' on '/pool/x.qcow2': "
                "Permission denied"
            ),
            "SELinux on the hypervisor does not let libvirt or QEMU use a file",
            "restorecon",
        ),
        # libvirt 9.0, src/util/vircommand.c, virExec()
        (
            (
                "internal error: Process exited prior to exec: libvirt:  error : unable to set SELinux security "
                "context 'system_u:system_r:svirt_t:s0:c1,c2' for '/usr/bin/qemu-system-x86_64': Permission denied"
            ),
            "SELinux on the hypervisor does not let libvirt or QEMU use a file",
            "ausearch",
        ),
        # Reported: cockpit-project/cockpit 15606, NFS under SELinux
        (
            (
                "internal error: process exited while connecting to monitor: 2021-03-27T07:18:00.959587Z qemu-kvm: "
                '-blockdev {"driver":"file","filename":"/containers/test.qcow2","node-name":"libvirt-1-storage"}: '
                "Could not open '/nfsexport/test.qcow2': Permission denied"
            ),
            "QEMU is not allowed to open /nfsexport/test.qcow2",
            "virt_use_nfs",
        ),
        # Reported: cockpit-project/cockpit-machines 193, Ubuntu with AppArmor
        (
            (
                "internal error: process exited while connecting to monitor: 2021-06-05T03:58:37.910878Z "
                'qemu-system-x86_64: -blockdev {"driver":"file","filename":"/bak/disks2/test"}: '
                "Could not open '/bak/disks2/test': Permission denied"
            ),
            "QEMU is not allowed to open /bak/disks2/test",
            "journalctl",
        ),
        # Reported: NixOS/nixpkgs 223594
        (
            (
                "internal error: Failed to apply firewall rules /bin/iptables -w --table nat --insert POSTROUTING "
                "--jump LIBVIRT_PRT: iptables v1.8.8 (nf_tables):  CHAIN_ADD failed (No such file or directory): "
                "chain POSTROUTING"
            ),
            "the hypervisor's firewall rejects libvirt's rules: iptables v1.8.8 (nf_tables):  CHAIN_ADD failed",
            "restart libvirtd",
        ),
        # newer libvirt, src/util/virfirewall.c, virFirewallCmdNftablesApply()
        (
            (
                "internal error: Failed to apply firewall command 'nft -ae insert rule ip6 libvirt_network "
                "guest_output iif virbr3 counter reject': Error: Could not process rule: No such file or directory"
            ),
            "the hypervisor's firewall rejects libvirt's rules: Error: Could not process rule",
            "restart libvirtd",
        ),
        # Reported: NixOS/nixpkgs 75878, with libvirt 5
        (
            "internal error: Failed to initialize a valid firewall backend",
            "libvirt cannot run iptables or nft on the hypervisor",
            "install the package iptables",
        ),
        # src/util/virtpm.c, virTPMEmulatorInit(); libvirt 9.0 reports the TPM's version first
        (
            "Unable to find 'swtpm' binary in $PATH: No such file or directory",
            "the hypervisor has no software TPM",
            "swtpm-tools",
        ),
    ],
)
def test_a_message_that_was_reported(text: str, cause: str, remedy: str) -> None:
    """A message that this machine cannot produce has its cause and a hint that fits."""
    found, hint = explain(text)
    assert found.startswith(cause)
    assert remedy in hint
