"""A folder with an installed system in, a qcow2 file that boots with Secure Boot out. Runs as root, with no loop devices."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from swarm.errors import ImageError
from swarm.images.recipe import LABEL_ESP, LABEL_ROOT
from swarm.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from swarm.images.recipe import Recipe

__all__ = ["assemble"]

_MIB = 1 << 20
_SECTOR = 512
# The ESP holds shim, GRUB and what fwupd may put there; FAT32 needs at least 33 MiB.
_ESP_START, _ESP_SIZE = 1 * _MIB, 64 * _MIB
_ROOT_START = _ESP_START + _ESP_SIZE
# The backup partition table stands in the last 33 sectors.
_TAIL = 1 * _MIB
DISK_SIZE = 3 << 30

# GRUB as the distribution signed it looks for its first configuration in EFI/<distribution> on the ESP. It is what
# grub-install writes there, too, when an update of shim or GRUB runs it.
_ESP_CONFIG = f"""search --no-floppy --label {LABEL_ROOT} --set=root
set prefix=($root)'/boot/grub'
configfile $prefix/grub.cfg
"""
_GRUB_CONFIG = ROOT / "templates" / "image" / "grub.cfg"


def assemble(root: Path, recipe: Recipe, work: Path, target: Path, run: Callable[[list[str]], None]) -> None:
    """Make the qcow2 file `target` from the tree `root`.

    `work` is a folder for scratch files; `run` runs a command and raises if it fails. Raise ImageError if the tree lacks the boot loader.
    """
    esp = _esp_tree(root, recipe, work / "esp")
    (root / "boot/grub").mkdir(exist_ok=True)
    shutil.copyfile(_GRUB_CONFIG, root / "boot/grub/grub.cfg")
    disk, fat = work / "disk.raw", work / "esp.fat"
    with disk.open("wb") as file:
        file.truncate(DISK_SIZE)
    first = f"start={_ESP_START // _SECTOR}, size={_ESP_SIZE // _SECTOR}, type=uefi, name=esp"
    (work / "table").write_text(f"label: gpt\n{first}\nstart={_ROOT_START // _SECTOR}, type=linux, name=root\n")
    run(["sh", "-c", 'exec sfdisk --quiet "$1" <"$2"', "sfdisk", str(disk), str(work / "table")])
    run(["mkfs.vfat", "-F", "32", "-n", LABEL_ESP, "-C", str(fat), str(_ESP_SIZE // 1024)])
    run(["mcopy", "-s", "-i", str(fat), str(esp / "EFI"), "::"])
    run(["dd", f"if={fat}", f"of={disk}", "bs=1M", f"seek={_ESP_START // _MIB}", "conv=notrunc", "status=none"])
    blocks = (DISK_SIZE - _ROOT_START - _TAIL) // 1024
    run(["mkfs.ext4", "-q", "-L", LABEL_ROOT, "-d", str(root), "-E", f"offset={_ROOT_START}", str(disk), f"{blocks}k"])
    run(["qemu-img", "convert", "-O", "qcow2", str(disk), str(target)])


def _esp_tree(root: Path, recipe: Recipe, esp: Path) -> Path:
    shim = root / "usr/lib/shim/shimx64.efi.signed"
    grub = root / "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
    for loader in (shim, grub):
        if not loader.exists():
            raise ImageError(
                f"the packages of {recipe.distribution} {recipe.suite} brought no {loader.relative_to(root)}",
                "please report this; a published image works meanwhile",
            )
    boot, own = esp / "EFI/BOOT", esp / "EFI" / recipe.distribution
    boot.mkdir(parents=True)
    own.mkdir()
    # EFI/BOOT/BOOTX64.EFI is what firmware starts from a disk it has no boot entry for.
    shutil.copyfile(shim, boot / "BOOTX64.EFI")
    shutil.copyfile(grub, boot / "grubx64.efi")
    (own / "grub.cfg").write_text(_ESP_CONFIG)
    return esp
