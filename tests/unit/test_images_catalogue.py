"""The catalogue, and the recipe of the image that is built here."""

from __future__ import annotations

import platform
import shutil
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from swarm import images
from swarm.errors import ImageError, Unfit
from swarm.images import catalogue, recipe

if TYPE_CHECKING:
    from pathlib import Path

DEBIAN = {
    "ID": "debian",
    "VERSION_ID": "12",
    "VERSION_CODENAME": "bookworm",
    "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)",
}


def machine(monkeypatch: pytest.MonkeyPatch, release: dict[str, str], architecture: str = "x86_64") -> None:
    """Let this machine be another one."""
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: release)
    monkeypatch.setattr(platform, "machine", lambda: architecture)


def test_published() -> None:
    """The published images come over HTTPS, with the checksum file that stands beside them, and are generic ones."""
    published = {entry.name: entry for entry in images.entries() if entry.kind == "published"}
    assert set(published) == {"ubuntu-24.04", "debian-12", "debian-13"}
    for entry in published.values():
        assert urlsplit(entry.url).scheme == urlsplit(entry.checksums).scheme == "https"
        assert entry.url.rsplit("/", 1)[0] == entry.checksums.rsplit("/", 1)[0]
        assert entry.checksums.endswith(f"/{entry.algorithm.upper()}SUMS")
        assert "genericcloud" not in entry.url


@pytest.mark.parametrize(
    ("name", "near"), [("ubuntu-24.4", "ubuntu-24.04"), ("debian12", "debian-12"), ("buit", "built")]
)
def test_unknown_name(name: str, near: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown name is refused with the nearest one as a hint."""
    machine(monkeypatch, DEBIAN)
    with pytest.raises(ImageError, match=f"there is no image '{name}'") as caught:
        images.find(name)
    assert caught.value.hint == f"did you mean {near}?"


def test_no_near_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name like no other is refused with the whole list, and a path or an address is only a name like that."""
    machine(monkeypatch, DEBIAN)
    with pytest.raises(ImageError) as caught:
        images.find("/etc/passwd")
    assert caught.value.hint == "known images: ubuntu-24.04, debian-12, debian-13, built, built-debian-12"


def test_built_has_two_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """`built` is this machine's distribution, which may also be named in full."""
    machine(monkeypatch, {**DEBIAN, "ID": "ubuntu", "VERSION_ID": "24.04", "VERSION_CODENAME": "noble"})
    assert [entry.name for entry in catalogue.entries() if entry.kind == "built"] == [
        "built",
        "built-ubuntu-24.04",
    ]


@pytest.mark.parametrize(
    ("release", "architecture", "message"),
    [
        (
            {"ID": "fedora", "VERSION_ID": "42", "VERSION_CODENAME": "", "PRETTY_NAME": "Fedora 42"},
            "x86_64",
            "this is Fedora 42",
        ),
        ({}, "x86_64", "this is neither"),
        (
            {**DEBIAN, "VERSION_ID": "11", "VERSION_CODENAME": "bullseye", "PRETTY_NAME": "Debian 11"},
            "x86_64",
            "this is Debian 11",
        ),
        (
            {"ID": "debian", "PRETTY_NAME": "Debian GNU/Linux trixie/sid"},
            "x86_64",
            "this is Debian GNU/Linux trixie/sid",
        ),
        (DEBIAN, "aarch64", "this machine is aarch64"),
    ],
)
def test_cannot_build(
    monkeypatch: pytest.MonkeyPatch, release: dict[str, str], architecture: str, message: str
) -> None:
    """Where no image can be built, the catalogue does not offer one, and asking for it says why."""
    machine(monkeypatch, release, architecture)
    assert {entry.kind for entry in images.entries()} == {"published"}
    with pytest.raises(Unfit, match=message) as caught:
        images.find("built")
    assert "published image" in str(caught.value.hint)


def test_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The identity is the same for the same recipe, and another one for any change of suite, package list or file."""
    shutil.copytree(recipe.FOLDER, tmp_path / "image", symlinks=True)
    monkeypatch.setattr(recipe, "FOLDER", tmp_path / "image")
    base = recipe.Recipe("debian", "12", "bookworm")
    seen = [base.identity, recipe.Recipe("debian", "13", "trixie").identity]
    assert recipe.Recipe("debian", "12", "bookworm").identity == base.identity

    some = next(path for path in sorted((tmp_path / "image").rglob("*")) if path.is_file())
    for change in (
        lambda: some.write_text(some.read_text() + "\n"),
        lambda: some.chmod(0o755),
        lambda: some.rename(some.with_name("other")),
        lambda: monkeypatch.setattr(recipe, "_SWARM", "cloud-init"),
    ):
        change()
        seen.append(recipe.Recipe("debian", "12", "bookworm").identity)
    assert len(set(seen)) == len(seen)


def test_labels() -> None:
    """The labels that the disk is made with are those that GRUB, the kernel and fstab look for."""
    fstab = (recipe.FOLDER / "root/etc/fstab").read_text()
    assert f"LABEL={recipe.LABEL_ROOT} / " in fstab
    assert f"LABEL={recipe.LABEL_ESP} /boot/efi " in fstab
    for name in ("grub.cfg", "esp.cfg"):
        assert (
            f"search --no-floppy --label {recipe.LABEL_ROOT} --set=root" in (recipe.FOLDER / name).read_text()
        )
    assert len(recipe.LABEL_ESP) <= 11


def test_kernel_command_line() -> None:
    """All boots have the same kernel command line, and it turns no protection off."""
    first = next(
        line for line in (recipe.FOLDER / "grub.cfg").read_text().splitlines() if line.startswith("linux ")
    )
    later = (recipe.FOLDER / "root/etc/default/grub.d/50-swarm.cfg").read_text()
    options = first.split(" ro ")[1]
    assert f'GRUB_CMDLINE_LINUX="{options}"' in later
    assert options.split()[:2] == ["console=tty0", "console=ttyS0,115200"]
    assert not {"mitigations=off", "audit=0", "apparmor=0"} & set(options.split())
