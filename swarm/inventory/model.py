"""The model of a host file: its sections and keys. Instances are immutable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from swarm.errors import Refused
from swarm.inventory import uri as addresses
from swarm.inventory.agentmon import AgentmonSettings
from swarm.inventory.backup import BackupSettings
from swarm.inventory.egress import Egress
from swarm.inventory.fields import (
    GIB,
    Address,
    DiskPath,
    DiskSize,
    Domain,
    Fingerprint,
    Folder,
    Group,
    Hostname,
    Label,
    Mac,
    MachineAddress,
    Memory,
    MountPoint,
    Name,
    NetworkName,
    Tag,
    as_text,
    wrong,
)
from swarm.inventory.inside import Customize, InstallSettings, Section
from swarm.paths import hosts_dir

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Drill", "Host", "Hypervisor", "Machine", "Virtiofs", "Vm"]


def _uri(value: str) -> str:
    if problem := addresses.check(value):
        raise wrong(*problem)
    return value


Uri = Annotated[
    str,
    AfterValidator(_uri),
    as_text(r"(embedded|none|(qemu(\+(unix|ssh|libssh|libssh2|tls))?|test)://.*/.+)"),
]


class Hypervisor(Section):
    """The hypervisor that runs the VM."""

    uri: Uri = Field(
        default="qemu:///system",
        description="The libvirt URI, such as qemu+ssh://user@box/system, 'embedded' for a private libvirt, or 'none' "
        "for a machine that swarm does not make.",
        examples=["qemu:///system", "qemu+ssh://root@box/system", addresses.EMBEDDED, addresses.NONE],
    )
    network: NetworkName = Field(
        default="default",
        description="The libvirt network that the VM is attached to; it must have a DHCP server.",
    )
    acceleration: Literal["auto", "kvm", "emulation"] = Field(
        default="auto", description="'auto' uses KVM if it works."
    )

    @property
    def remote(self) -> bool:
        """Whether the hypervisor is another machine, so that paths on it do not refer to this machine."""
        return addresses.remote(self.uri)


class Virtiofs(Section):
    """A directory of the hypervisor that is shared with the guest."""

    source: Folder = Field(
        description="The directory on the hypervisor. ~ is your home. swarm makes a relative path in its state.",
        examples=["~/lab/swarm", "demo"],
    )
    tag: Tag = Field(description="The virtiofs tag, by which the guest mounts the share.", examples=["swarm"])
    target: MountPoint = Field(description="The mount point in the guest.", examples=["/mnt/swarm"])


class Vm(Section):
    """The virtual machine."""

    domain: Domain = Field(
        description="The name of the libvirt domain; it may contain spaces and brackets.",
        examples=["zap [claw]"],
    )
    hostname: Hostname = Field(description="The guest's host name.", examples=["zap"])
    image: Label = Field(
        default="ubuntu-24.04",
        description="A name from the image catalog; `inv images` lists them.",
        examples=["ubuntu-24.04", "built"],
    )
    memory_mib: Memory = Field(description="Memory in MiB.", examples=[3072])
    # More than 255 require an IOMMU with extended interrupt mode (libvirt's qemu_validate.c), which swarm's domains
    # do not have.
    vcpus: int = Field(ge=1, le=255, description="The number of virtual CPUs.", examples=[2])
    disk_path: DiskPath = Field(
        description="The root disk on the hypervisor, a .qcow2 file. Its directory becomes a libvirt pool.",
        examples=["/var/lib/libvirt/images/zap.qcow2"],
    )
    disk_size: DiskSize = Field(
        description="The size of the root disk with its unit, such as 60G. It can grow later, but not shrink.",
        examples=["60G", "1T"],
    )
    mac: Mac = Field(description="The MAC address, starting with 52:54:00.", examples=["52:54:00:01:00:71"])
    ip: Address = Field(
        description="The address that libvirt's DHCP server reserves for the VM.",
        examples=["192.168.122.182"],
    )
    network: Egress = Field(
        default=Egress(), description="What the guest may reach besides the internet; optional."
    )
    virtiofs: Virtiofs | None = Field(default=None, description="A shared directory; optional.")
    autostart: bool = Field(default=True, description="Start the VM when its hypervisor starts.")


class Machine(Section):
    """A machine that swarm did not create: a VPS, a VM of Proxmox or KubeVirt, bare metal."""

    address: MachineAddress = Field(
        description="The machine's IP address or DNS name.", examples=["203.0.113.7", "claw.example.org"]
    )
    hostname: Hostname = Field(description="The machine's host name.", examples=["claw"])
    port: int = Field(default=22, ge=1, le=65535, description="The port of its SSH server.")
    fingerprint: Fingerprint | None = Field(
        default=None,
        description="The fingerprint of its ed25519 host key. Without one, `inv provision` shows the key and asks.",
        examples=["SHA256:uNiVztksCsDhcc0u9e8BrgtUqbSp2ZlVm7cVDkDEQqE"],
    )


class Drill(Section):
    """The throwaway VM of `inv drill`, where it can't be made like the host's own."""

    hypervisor: Uri = Field(
        default=addresses.EMBEDDED,
        description="The hypervisor that runs the drill of a machine that swarm did not make.",
        examples=[addresses.EMBEDDED, "qemu:///system"],
    )
    image: Label = Field(
        default="ubuntu-24.04", description="A name from the image catalog.", examples=["built"]
    )
    memory_mib: Memory = Field(default=2048, description="Memory in MiB.")
    disk_size: DiskSize = Field(
        default=20 * GIB,
        description="The size of the root disk with its unit.",
        json_schema_extra={"default": "20G"},
    )


class Host(Section):
    """One agent's machine, as described by its host file: a VM, or a machine that swarm did not make."""

    name: Name = Field(description="The file's name without .yaml.")
    hypervisor: Hypervisor = Field(default=Hypervisor(), description="The hypervisor that runs the VM.")
    groups: tuple[Group, ...] = Field(
        default=(), description="Names for --host @NAME, each shared by several hosts.", examples=[["home"]]
    )
    own_vm: Vm | None = Field(default=None, alias="vm", description="The virtual machine.")
    machine: Machine | None = Field(
        default=None, description="The machine, if hypervisor.uri is none; replaces vm."
    )
    guest: Customize = Field(default=Customize(), description="Settings inside the guest: `inv customize`.")
    openclaw: InstallSettings = Field(
        default=InstallSettings(), description="OpenClaw and its dependencies in the guest: `inv install`."
    )
    backup: BackupSettings = Field(
        default=BackupSettings(), description="Where the agent's state is backed up to: `inv backup`."
    )
    agentmon: AgentmonSettings | None = Field(
        default=None, description="Where the agent's events are sent, if anywhere: `inv hook.deploy`."
    )
    drill: Drill = Field(
        default=Drill(), description="The VM of `inv drill` for a host without a VM of its own."
    )

    @property
    def foreign(self) -> bool:
        """Whether swarm did not create the machine, so that there is no VM for it to change."""
        return self.hypervisor.uri == addresses.NONE

    @property
    def vm(self) -> Vm:
        """The virtual machine. Raise Refused for a machine that swarm did not make."""
        if self.own_vm is None:
            raise Refused(
                f"{self.name}: swarm did not make this machine (hypervisor.uri: none), so it has no VM to work on",
                "use the tools of the engine that made it",
            )
        return self.own_vm

    @property
    def address(self) -> str:
        """Where SSH reaches the guest."""
        return self.machine.address if self.machine else str(self.vm.ip)

    @property
    def hostname(self) -> str:
        """The guest's host name."""
        return self.machine.hostname if self.machine else self.vm.hostname

    @property
    def share(self) -> Virtiofs | None:
        """The shared directory, if there is one."""
        return self.own_vm.virtiofs if self.own_vm else None

    @property
    def known_hosts(self) -> Path:
        """The path of the file that pins the guest's SSH host key."""
        return hosts_dir() / f"{self.name}.known_hosts"
