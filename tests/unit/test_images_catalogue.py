"""The catalog, and the recipe of the image that this machine builds."""

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
    """Pretend to be another machine."""
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: release)
    monkeypatch.setattr(platform, "machine", lambda: architecture)


def test_published() -> None:
    """Published images and their checksum files come over HTTPS from the same directory, and are generic images."""
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
    """An unknown name is rejected with the closest name as a hint."""
    machine(monkeypatch, DEBIAN)
    with pytest.raises(ImageError, match=f"there is no image '{name}'") as caught:
        images.find(name)
    assert caught.value.hint == f"did you mean {near}?"


def test_no_close_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resembles no image, such as a path, is rejected with the list of all names."""
    machine(monkeypatch, DEBIAN)
    with pytest.raises(ImageError) as caught:
        images.find("/etc/passwd")
    assert caught.value.hint == "known images: ubuntu-24.04, debian-12, debian-13, built, built-debian-12"


def test_built_has_two_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """`built` stands for this machine's distribution, which also has a full name."""
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
    """On a machine that cannot build, the catalog has no built image, and requesting it gives the reason."""
    machine(monkeypatch, release, architecture)
    assert {entry.kind for entry in images.entries()} == {"published"}
    with pytest.raises(Unfit, match=message) as caught:
        images.find("built")
    assert "published image" in str(caught.value.hint)


def test_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Equal recipes have the same identity. It changes with the suite, the package list and every file."""
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
        lambda: monkeypatch.setattr(recipe, "NEEDED", "cloud-init"),
    ):
        change()
        seen.append(recipe.Recipe("debian", "12", "bookworm").identity)
    assert len(set(seen)) == len(seen)


def test_labels() -> None:
    """GRUB, the kernel and fstab look for the labels that the disk gets."""
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
