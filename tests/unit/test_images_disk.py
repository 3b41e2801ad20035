"""The disk that is created from a tree of files, checked with standard disk tools."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from swarm.errors import ImageError
from swarm.images import disk, recipe
from swarm.images.builder import Builder

if TYPE_CHECKING:
    from pathlib import Path

SHIM, GRUB = "usr/lib/shim/shimx64.efi.signed", "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
OFFSET = 65 << 20


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a small tree with fake boot loaders. As on Ubuntu, shim is an absolute symbolic link."""
    root = tmp_path / "root"
    for name, text in (
        (f"{SHIM}.latest", "shim"),
        (GRUB, "grub"),
        ("etc/os-release", "ID=ubuntu"),
        ("boot/vmlinuz", "kernel"),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "etc/alternatives").mkdir()
    (root / SHIM).symlink_to("/etc/alternatives/shim")
    (root / "etc/alternatives/shim").symlink_to(f"/{SHIM}.latest")
    return root


def output(*argv: str) -> str:
    """Run a program and return its output."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return subprocess.run(
        argv,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path, "MTOOLS_SKIP_CHECK": "1"},
    ).stdout


def test_assemble(tree: Path, tmp_path: Path) -> None:
    """The disk has a GPT with a bootable ESP, and as its last partition a labeled root with the tree."""
    image, raw = tmp_path / "image.qcow2", tmp_path / "raw"
    disk.assemble(tree, recipe.Recipe("ubuntu", "24.04", "noble"), tmp_path, image, Builder(tmp_path).run)
    assert (
        json.loads(output("qemu-img", "info", "--output=json", str(image)))["virtual-size"] == disk.DISK_SIZE
    )
    output("qemu-img", "convert", "-O", "raw", str(image), str(raw))

    table = json.loads(output("sfdisk", "--json", str(raw)))["partitiontable"]
    assert table["label"] == "gpt"
    assert [(part["name"], part["type"]) for part in table["partitions"]] == [
        ("esp", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"),
        ("root", "0FC63DAF-8483-4772-8E79-3D69D8477DE4"),
    ]
    assert "No errors detected." in output("sfdisk", "--verify", str(raw))

    esp = f"{raw}@@{1 << 20}"
    assert output("mtype", "-i", esp, "::/EFI/BOOT/BOOTX64.EFI") == "shim"
    assert output("mtype", "-i", esp, "::/EFI/BOOT/grubx64.efi") == "grub"
    assert output("mtype", "-i", esp, "::/EFI/ubuntu/grub.cfg") == (recipe.FOLDER / "esp.cfg").read_text()
    assert recipe.LABEL_ESP in output("mlabel", "-s", "-i", esp, "::")

    root = f"{raw}?offset={OFFSET}"
    assert output("debugfs", "-R", "cat /etc/os-release", root) == "ID=ubuntu"
    assert (
        output("debugfs", "-R", "cat /boot/grub/grub.cfg", root) == (recipe.FOLDER / "grub.cfg").read_text()
    )
    assert f"Filesystem volume name:   {recipe.LABEL_ROOT}" in output("debugfs", "-R", "stats -h", root)


@pytest.mark.parametrize("missing", [f"{SHIM}.latest", GRUB])
def test_no_boot_loader(tree: Path, tmp_path: Path, missing: str) -> None:
    """Without a signed boot loader no image is created, because Secure Boot would fail."""
    (tree / missing).unlink()
    with pytest.raises(ImageError, match="the packages of ubuntu noble do not contain /usr/lib/"):
        disk.assemble(
            tree,
            recipe.Recipe("ubuntu", "24.04", "noble"),
            tmp_path,
            tmp_path / "image",
            Builder(tmp_path).run,
        )
    assert not (tmp_path / "image").exists()


def test_links_stay_inside(tree: Path, tmp_path: Path) -> None:
    """A symbolic link in the tree never resolves to a file of this machine."""
    (tree / SHIM).unlink()
    (tree / SHIM).symlink_to("../../../../../../../../etc/passwd")
    with pytest.raises(ImageError, match="do not contain"):
        disk.assemble(
            tree,
            recipe.Recipe("ubuntu", "24.04", "noble"),
            tmp_path,
            tmp_path / "image",
            Builder(tmp_path).run,
        )
