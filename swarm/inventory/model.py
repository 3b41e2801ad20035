"""What a host file may say: its sections and keys, frozen once they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from swarm.inventory import uri as addresses
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
    """Where the VM lives."""

    uri: Uri = Field(
        default="qemu:///system",
        description="libvirt's URI: qemu:///system, qemu+ssh://user@box/system, or 'embedded': a private libvirt.",
        examples=["qemu:///system", "qemu+ssh://root@box/system", addresses.EMBEDDED],
    )
    network: NetworkName = Field(
        default="default",
        description="The libvirt network that the VM is plugged into; it must hand out addresses by DHCP.",
    )
    acceleration: Literal["auto", "kvm", "emulation"] = Field(
        default="auto", description="'auto' takes KVM where it truly works."
    )

    @property
    def remote(self) -> bool:
        """Whether it is another machine, so that its files are not this machine's."""
        return addresses.remote(self.uri)


class Virtiofs(Section):
    """A folder of the hypervisor that the guest sees."""

    source: Folder = Field(
        description="The folder on the hypervisor; ~ is your home, a relative path starts at the project's folder.",
        examples=["~/lab/swarm", "share"],
    )
    tag: Tag = Field(description="The name under which the guest finds it.", examples=["swarm"])
    target: MountPoint = Field(description="Where the guest mounts it.", examples=["/mnt/swarm"])


class Vm(Section):
    """The virtual machine."""

    domain: Domain = Field(
        description="The libvirt domain's name; spaces and brackets are fine.", examples=["zap [claw]"]
    )
    hostname: Hostname = Field(description="The guest's host name.", examples=["zap"])
    image: Label = Field(
        default="ubuntu-24.04",
        description="A name of the image catalogue; `inv images` lists them.",
        examples=["ubuntu-24.04", "built"],
    )
    memory_mib: Memory = Field(description="Memory in MiB.", examples=[3072])
    # More than 255 need an IOMMU with extended interrupt mode, which swarm's domains do not have (libvirt's
    # qemu_validate.c).
    vcpus: int = Field(ge=1, le=255, description="Virtual processors.", examples=[2])
    disk_path: DiskPath = Field(
        description="The root disk on the hypervisor, a .qcow2 file in a folder that is, or becomes, a libvirt pool.",
        examples=["/var/lib/libvirt/images/zap.qcow2"],
    )
    disk_size: DiskSize = Field(
        description="The root disk's size with its unit: 60G. It may grow later, never shrink.",
        examples=["60G", "1T"],
    )
    mac: Mac = Field(
        description="The network card's address, beginning with 52:54:00.", examples=["52:54:00:01:00:71"]
    )
    ip: Address = Field(
        description="The address that libvirt's DHCP server reserves for the VM.",
        examples=["192.168.122.182"],
    )
    virtiofs: Virtiofs | None = Field(default=None, description="A shared folder; leave it out for none.")
    autostart: bool = Field(default=True, description="Start the VM with its hypervisor.")


class Host(Section):
    """One VM, as its host file states it."""

    name: Name = Field(description="The file's name without .yaml.")
    hypervisor: Hypervisor = Field(default=Hypervisor(), description="Where the VM lives.")
    vm: Vm
    guest: Customize = Field(default=Customize(), description="Settings inside the guest: `inv customize`.")
    openclaw: InstallSettings = Field(
        default=InstallSettings(), description="OpenClaw and what it needs in the guest: `inv install`."
    )

    @property
    def known_hosts(self) -> Path:
        """The file that pins this guest's SSH host key."""
        return hosts_dir() / f"{self.name}.known_hosts"
