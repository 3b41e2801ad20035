"""The contenders: swarm, virt-install and virt-lightning. Each makes the same VM from the same image."""

from __future__ import annotations

import struct
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bench._arena import HOST, Arena, need_packages, run
from swarm import access, ssh
from swarm.embedded.client import as_root
from swarm.hypervisor.network import Network
from swarm.paths import ROOT
from swarm.vm import seed

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Contender", "Ours", "VirtInstall", "VirtLightning"]

_SECTOR = 512
_GIB = 1 << 30


class Contender(Protocol):
    """One way to make a VM.

    `knows_key`: whether the guest's host key is known before it boots. `says_login`: what the program prints once it
    has logged in as root; empty for a program that does not log in.
    """

    name: str
    domain: str
    address: str
    knows_key: bool
    says_login: bytes

    def prepare(self) -> None:
        """Install the program and lay out its files. This runs once and is not measured."""

    def command(self) -> Sequence[str]:
        """Return the command that is measured."""

    def host_key(self) -> str | None:
        """Return the guest's host key as "type key", or None while it is unknown."""

    def destroy(self) -> None:
        """Remove the VM and everything that was made with it."""


class Ours:
    """`./inv provision`."""

    name = "swarm"
    knows_key = True
    says_login = "✓ login ".encode()

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self.domain, self.address = arena.host.vm.domain, str(arena.host.vm.ip)

    def prepare(self) -> None:
        """Do nothing: `./inv` runs this program, so it is installed."""

    def command(self) -> Sequence[str]:
        """Return the command as a user types it."""
        return [str(ROOT / "inv"), "provision", "--host", HOST]

    def host_key(self) -> str | None:
        """Return the key that swarm has pinned."""
        return ssh.pinned(self._arena.host.known_hosts)

    def destroy(self) -> None:
        """Remove the VM as a user would."""
        run([str(ROOT / "inv"), "destroy", "--host", HOST, "--yes"])


class VirtInstall:
    """`virt-install --cloud-init` with options for the machine that swarm makes, and the same cloud-init files."""

    name = "virt-install"
    knows_key = True
    says_login = b""
    domain = "peer"
    address = "192.168.122.31"
    _mac = "52:54:00:00:de:31"

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._disk = f"{arena.pool}/{self.domain}.qcow2"
        self._seed = arena.folder / "virt-install"
        self._key = ssh.keypair(self.domain)

    def prepare(self) -> None:
        """Install it, write the three cloud-init files, and reserve the address. None of that is measured."""
        need_packages({"virt-install": "virtinst"}, self._arena.talk)
        host = self._arena.host
        vm = host.vm.model_copy(update={"domain": self.domain, "hostname": self.domain, "mac": self._mac})
        named = host.model_copy(update={"name": self.domain, "vm": vm})
        self._seed.mkdir()
        files = seed.seed_files(
            named, str(uuid.uuid4()), self._key, access.authorized_keys(host), has_agent=True
        )
        for name, text in files.items():
            (self._seed / name).write_text(text, encoding="utf-8")
        Network(self._arena.connection, host.hypervisor.network).reserve(self._mac, self.address, self.domain)
        # Its pool for the seed. The folder comes with libvirt's packages, so a private libvirt does not have it.
        run(self._arena.inside(["mkdir", "-p", "/var/lib/libvirt/boot"]))

    def command(self) -> Sequence[str]:
        """Return the command line that asks for the same machine as the host file."""
        vm, share = self._arena.host.vm, self._arena.host.vm.virtiofs
        assert share is not None  # noqa: S101 - demo has one
        features = ("enrolled-keys", "secure-boot")
        firmware = ",".join(
            f"firmware.feature{number}.name={name},firmware.feature{number}.enabled=yes"
            for number, name in enumerate(features)
        )
        files = ",".join(
            f"{name}={self._seed / name}" for name in ("user-data", "meta-data", "network-config")
        )
        options = {
            "--connect": "qemu:///system",
            "--name": self.domain,
            "--memory": str(vm.memory_mib),
            "--vcpus": str(vm.vcpus),
            "--osinfo": "debian11",  # the newest in Debian 12's database; it selects virtio devices
            "--machine": "q35",
            "--boot": f"firmware=efi,{firmware}",
            "--features": "smm.state=on",
            "--disk": f"path={self._disk},size={vm.disk_size // _GIB},"
            f"backing_store={self._arena.base},backing_format=qcow2",
            "--network": f"network={self._arena.host.hypervisor.network},mac={self._mac}",
            "--memorybacking": "source.type=memfd,access.mode=shared",
            "--filesystem": f"source={share.source},target={share.tag},driver.type=virtiofs,accessmode=passthrough",
            "--tpm": "backend.type=emulator,backend.version=2.0,model=tpm-crb",
            "--watchdog": "i6300esb,action=reset",
            "--rng": "/dev/urandom",
            "--channel": "unix,target.type=virtio,target.name=org.qemu.guest_agent.0",
            "--graphics": "none",
            "--video": "vga",
            "--cloud-init": files,
        }
        words = [word for option in options.items() for word in option]
        return self._arena.inside(["virt-install", *words, "--import", "--noautoconsole"])

    def host_key(self) -> str | None:
        """Return the key in its user-data."""
        return " ".join(self._key[1].split()[:2])

    def destroy(self) -> None:
        """Remove the domain and its disk."""
        self._arena.remove(self.domain)


class VirtLightning:
    """`vl up`. It makes a BIOS machine without TPM, share, watchdog or rng, and the host key is unknown before boot."""

    name = "virt-lightning"
    knows_key = False
    says_login = b""
    domain = "lightning"
    address = "192.168.123.5"
    _home = Path("/var/lib/virt-lightning")  # the only place in which it searches for images

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._venv = arena.folder / "venv"
        self._config = arena.folder / "virt-lightning.ini"
        self._hosts = arena.folder / "virt-lightning.yaml"
        self._made_home = False

    def prepare(self) -> None:
        """Install it, give it a copy of the image that a BIOS can start, and make it create its network and pool."""
        arena, talk = self._arena, self._arena.talk
        boot = Path("/usr/lib/grub/i386-pc/boot.img")
        need_packages(
            {"genisoimage": "genisoimage", str(boot): "grub-pc-bin", "grub-mkimage": "grub-common"}, talk
        )
        with talk.step("installing virt-lightning into its own folder"):
            run([sys.executable, "-m", "venv", str(self._venv)])
            pip = [
                str(self._venv / "bin/pip"),
                "--disable-pip-version-check",
                "install",
                "--quiet",
                "--require-hashes",
            ]
            lock = (ROOT / "bench/virt-lightning.lock").read_text(encoding="utf-8")
            first = (
                self._venv / "setuptools.lock"
            )  # the build requirement of its libvirt module, verified like the rest
            first.write_text(
                lock[lock.index("\nsetuptools==") : lock.index("\nvirt-lightning==")], encoding="utf-8"
            )
            run([*pip, "--requirement", str(first)])
            run([*pip, "--no-build-isolation", "--requirement", str(ROOT / "bench/virt-lightning.lock")])
        images = arena.folder / "virt-lightning" / "pool" / "upstream"
        images.mkdir(parents=True)
        with talk.step("making a copy of the image that a BIOS can start"):
            bios_copy(arena.image.path, boot, images / "built.qcow2")
        self._made_home = not self._home.exists()
        run(as_root(["mkdir", "-p", str(self._home)]))
        run(arena.inside(["mount", "--bind", str(arena.folder / "virt-lightning"), str(self._home)]))
        self._config.write_text(
            f"[main]\nlibvirt_uri = qemu:///system\nssh_key_file = {arena.key}.pub\n", encoding="utf-8"
        )
        vm = arena.host.vm
        # The image accepts a seed only from a NoCloud disk, so virt-lightning must make one.
        text = f"""\
- name: {self.domain}
  distro: built
  username: root
  memory: {vm.memory_mib}
  vcpus: {vm.vcpus}
  disks: [{{size: {vm.disk_size // _GIB}}}]
  networks: [{{ipv4: {self.address}}}]
  metadata_format: {{provider: nocloud}}
  meta_data_media_type: disk
"""
        self._hosts.write_text("[]\n", encoding="utf-8")
        run(self.command(), env=arena.environment)
        self._hosts.write_text(text, encoding="utf-8")

    def command(self) -> Sequence[str]:
        """Return the command that makes the VMs of its YAML file."""
        return self._arena.inside([*self._vl(), "up", "--virt-lightning-yaml", str(self._hosts)])

    def host_key(self) -> str | None:
        """Return None: it has no way to give a guest a key."""
        return None

    def destroy(self) -> None:
        """Remove the VM as a user would."""
        run(self._arena.inside([*self._vl(), "stop", self.domain]), env=self._arena.environment)

    def close(self) -> None:
        """Remove the folder that it requires, if `prepare` made it. The hypervisor must have stopped."""
        if self._made_home:
            run(as_root(["rmdir", str(self._home)]))

    def _vl(self) -> list[str]:
        return [str(self._venv / "bin/vl"), "--config", str(self._config)]


def bios_copy(image: Path, boot: Path, target: Path) -> None:
    """Write a copy of a UEFI image that a BIOS can start too. GRUB goes before the first partition.

    `boot` is the first sector from GRUB's package. This does what grub-install does, without a block device: the code
    in the first sector loads sector 34, the first that a GPT leaves free, whose code loads the sectors after it.
    """
    raw, core = target.with_suffix(".raw"), target.with_suffix(".core")
    run(["qemu-img", "convert", "-O", "raw", str(image), str(raw)])
    modules = [
        "biosdisk",
        "part_gpt",
        "ext2",
        "normal",
        "configfile",
        "search",
        "search_label",
        "linux",
        "boot",
    ]
    run(
        [
            "grub-mkimage",
            "--format",
            "i386-pc",
            "--prefix",
            "(hd0,gpt2)/boot/grub",
            "--output",
            str(core),
            *modules,
        ]
    )
    first, rest = bytearray(boot.read_bytes()), bytearray(core.read_bytes())
    start = 34
    struct.pack_into("<Q", first, 0x5C, start)  # GRUB_BOOT_MACHINE_KERNEL_SECTOR
    struct.pack_into(
        "<Q", rest, _SECTOR - 12, start + 1
    )  # the block list at the end of the core image's first sector
    with raw.open("r+b") as disk:
        disk.write(first[:440])  # the partition table follows
        disk.seek(start * _SECTOR)
        disk.write(rest)
    run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(target)])
    raw.unlink()
    core.unlink()
