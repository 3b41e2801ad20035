"""The model of a host file: its sections and keys. Instances are immutable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from swarm.inventory import uri as addresses
from swarm.inventory.agentmon import AgentmonSettings
from swarm.inventory.backup import BackupSettings
from swarm.inventory.fields import (
    Address,
    DiskPath,
    DiskSize,
    Domain,
    Folder,
    Hostname,
    Label,
    Mac,
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

__all__ = ["Host", "Hypervisor", "Virtiofs", "Vm"]


def _uri(value: str) -> str:
    if problem := addresses.check(value):
        raise wrong(*problem)
    return value


Uri = Annotated[
    str,
    AfterValidator(_uri),
    as_text(r"(embedded|(qemu(\+(unix|ssh|libssh|libssh2|tls))?|test)://.*/.+)"),
]


class Hypervisor(Section):
    """The hypervisor that runs the VM."""

    uri: Uri = Field(
        default="qemu:///system",
        description="The libvirt URI, such as qemu+ssh://user@box/system, or 'embedded' for a private libvirt.",
        examples=["qemu:///system", "qemu+ssh://root@box/system", addresses.EMBEDDED],
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
        description="The directory on the hypervisor. ~ is your home; relative paths start at the project.",
        examples=["~/lab/swarm", "share"],
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
    virtiofs: Virtiofs | None = Field(default=None, description="A shared directory; optional.")
    autostart: bool = Field(default=True, description="Start the VM when its hypervisor starts.")


class Host(Section):
    """One VM, as described by its host file."""

    name: Name = Field(description="The file's name without .yaml.")
    hypervisor: Hypervisor = Field(default=Hypervisor(), description="The hypervisor that runs the VM.")
    vm: Vm
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

    @property
    def known_hosts(self) -> Path:
        """The path of the file that pins the guest's SSH host key."""
        return hosts_dir() / f"{self.name}.known_hosts"
