"""The contents of a built image: this machine's distribution, packages, and the files of templates/image.

A recipe's identity is a hash of all its parts. An image is rebuilt only when the identity changes.
"""

from __future__ import annotations

import hashlib
import platform
import re
import stat
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from swarm.errors import Unfit
from swarm.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FOLDER", "LABEL_ESP", "LABEL_ROOT", "NEEDED", "UNUSED_UNITS", "Recipe", "files", "this_machine"]

FOLDER = ROOT / "templates" / "image"
_FILES = FOLDER / "root"

# GRUB, the kernel and fstab (all in templates/image) find the file systems by these labels. FAT allows 11
# characters.
LABEL_ROOT = "swarm-root"
LABEL_ESP = "SWARM-ESP"

# Increase it when a change of the code changes the resulting image.
_GENERATION = 2

# On top of mmdebstrap's variant "minbase" (essential packages and apt).
_SYSTEM = (
    "systemd-sysv systemd-timesyncd dbus dbus-user-session libpam-systemd udev kmod initramfs-tools zstd "
    "e2fsprogs dosfstools"
)
_PEOPLE = "procps less nano"
_NETWORK = "iproute2 iputils-ping netbase ca-certificates curl openssh-server rsync"
NEEDED = "cloud-init cloud-guest-utils fdisk sudo qemu-guest-agent"  # python3 comes with cloud-init
_SECURE_BOOT = "shim-signed grub-efi-amd64 grub-efi-amd64-signed efibootmgr mokutil"

# Debian's *cloud* kernel and Ubuntu's *kvm* kernel have neither the i6300esb watchdog nor AHCI. Ubuntu's
# linux-image-virtual has no i6300esb (it is in linux-modules-extra), hence linux-image-generic. Ubuntu's list
# comes from its package index; it has not been built on a machine that runs Ubuntu.
_OF = {
    "debian": "linux-image-amd64 systemd-resolved netplan.io",
    "ubuntu": "linux-image-generic systemd-resolved netplan.io ubuntu-keyring",
}

# Older releases do not have all of the packages.
_SINCE = {"debian": "12", "ubuntu": "24.04"}

# They check LVM volumes. The image has none.
UNUSED_UNITS = ("e2scrub_all.timer", "e2scrub_reap.service")


@dataclass(frozen=True)
class Recipe:
    """An image to build: the `distribution` ("debian"), its `version` ("12") and its `suite` ("bookworm")."""

    distribution: str
    version: str
    suite: str

    @property
    def name(self) -> str:
        """The image's full name, such as built-debian-12."""
        return f"built-{self.distribution}-{self.version}"

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages to install, without their dependencies."""
        return tuple(
            " ".join((_SYSTEM, _PEOPLE, _NETWORK, NEEDED, _SECURE_BOOT, _OF[self.distribution])).split()
        )

    @cached_property
    def identity(self) -> str:
        """16 hexadecimal digits that change with every change of the recipe."""
        digest = hashlib.sha256(
            repr((_GENERATION, self, self.packages, UNUSED_UNITS, LABEL_ROOT, LABEL_ESP)).encode()
        )
        for path in sorted(path for path in FOLDER.rglob("*") if path.is_file()):
            executable = bool(path.stat().st_mode & stat.S_IXUSR)
            digest.update(repr((str(path.relative_to(FOLDER)), executable, path.read_bytes())).encode())
        return digest.hexdigest()[:16]

    @property
    def file_name(self) -> str:
        """The name of the image's file, which contains the identity."""
        return f"{self.name}-{self.identity}.qcow2"


def files() -> dict[str, Path]:
    """Return the files to copy before the packages are installed, by their path in the image without the leading /."""
    return {str(path.relative_to(_FILES)): path for path in sorted(_FILES.rglob("*")) if path.is_file()}


def this_machine() -> Recipe:
    """Return the recipe for this machine's distribution. Raise Unfit unless it is Debian or Ubuntu on amd64."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    distribution, version, suite = (release.get(key, "") for key in ("ID", "VERSION_ID", "VERSION_CODENAME"))
    hint = "name a published image in the host file, like ubuntu-24.04; `inv images` lists them"
    if (
        not suite
        or not re.fullmatch(r"[0-9.]+", version)
        or _numbers(version) < _numbers(_SINCE.get(distribution, "999"))
    ):
        known = " and ".join(f"{name.capitalize()} since {since}" for name, since in _SINCE.items())
        raise Unfit(
            f"images can be built on {known}, and this is {release.get('PRETTY_NAME') or 'neither'}", hint
        )
    if platform.machine() != "x86_64":
        raise Unfit(f"images can be built for x86_64 only, and this machine is {platform.machine()}", hint)
    return Recipe(distribution, version, suite)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part]
