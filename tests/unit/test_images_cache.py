"""The image cache: adopting, finding and rejecting images."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from swarm.errors import ImageError, Unfit
from swarm.images import cache

if TYPE_CHECKING:
    from pathlib import Path


def qcow2(path: Path, *options: str, size: str = "1M") -> Path:
    """Create a qcow2 file with qemu-img."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, str(path), size], check=True)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of an empty cache."""
    monkeypatch.setenv("SWARM_CACHE", str(tmp_path))
    return cache.folder()


@pytest.fixture
def image(folder: Path) -> cache.Image:
    """Return the only image of a cache."""
    return cache.adopt(qcow2(folder / ".new"), "one.qcow2", "one")


def test_adopt(image: cache.Image, folder: Path) -> None:
    """A valid file gets its name and a sidecar, and its description is correct."""
    content = image.path.read_bytes()
    assert image == cache.Image(
        "one", folder / "one.qcow2", hashlib.sha256(content).hexdigest(), len(content), 1 << 20
    )
    assert sorted(path.name for path in folder.iterdir()) == ["one.qcow2", "one.qcow2.json"]
    assert cache.lookup("one.qcow2") == image
    assert cache.cached() == [image]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda path: path.write_bytes(b"\0" * 4096), "is not a qcow2 file", id="raw"),
        pytest.param(lambda path: path.write_bytes(b""), "is not a qcow2 file", id="empty"),
        pytest.param(lambda path: path.write_bytes(b"QFI\xfb" + b"\xff" * 508), "is damaged", id="damaged"),
        pytest.param(
            lambda path: qcow2(path, "-F", "raw", "-b", "/etc/passwd"),
            "refers to another file",
            id="backing file",
        ),
        pytest.param(
            lambda path: qcow2(path, "-o", f"data_file={path}.raw"), "refers to another file", id="data file"
        ),
    ],
)
def test_rejected(folder: Path, make: object, message: str) -> None:
    """A file that is not a qcow2 image, or that would make QEMU open another file, is rejected and deleted."""
    make(folder / ".new")  # type: ignore[operator]
    with pytest.raises(ImageError, match=message):
        cache.adopt(folder / ".new", "bad.qcow2", "bad")
    assert not (folder / ".new").exists()
    assert cache.lookup("bad.qcow2") is None


def test_no_qemu_img(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without qemu-img the error names the package, and the file is kept for the next run."""
    fresh = qcow2(folder / ".new")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unfit, match="needs qemu-img") as caught:
        cache.adopt(fresh, "one.qcow2", "one")
    assert caught.value.hint == "apt-get install qemu-utils"
    assert fresh.exists()


def test_qemu_img_is_killed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If qemu-img is killed, that is an error without a verdict on the file, which is kept for the next run."""
    fresh = qcow2(folder / ".new")
    program = tmp_path / "bin" / "qemu-img"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nkill -KILL $$\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    with pytest.raises(Unfit, match="image one cannot be checked: qemu-img ended with exit code -9"):
        cache.adopt(fresh, "one.qcow2", "one")
    assert fresh.exists()


def test_not_read_again(image: cache.Image) -> None:
    """A file whose size and time match the sidecar is not read."""
    stat = image.path.stat()
    image.path.write_bytes(b"x" * image.size)
    os.utime(image.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert cache.lookup("one.qcow2") == image


def test_touched(image: cache.Image) -> None:
    """A file with a new time but the same content is accepted, and read only once."""
    os.utime(image.path, ns=(1, 1))
    assert cache.lookup("one.qcow2") == image
    assert json.loads(image.path.with_name("one.qcow2.json").read_text())["mtime_ns"] == 1


@pytest.mark.parametrize("change", [b"", b"x", b"x" * 196_616])
def test_changed(image: cache.Image, change: bytes) -> None:
    """A file whose content has changed is rejected."""
    image.path.write_bytes(change)
    assert cache.lookup("one.qcow2") is None
    assert cache.cached() == []


def test_truncated(image: cache.Image) -> None:
    """A file whose size has changed is rejected, even if its time has not."""
    stat = image.path.stat()
    os.truncate(image.path, image.size - 1)
    os.utime(image.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert cache.lookup("one.qcow2") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"name": "one"}'])
def test_broken_sidecar(image: cache.Image, text: str) -> None:
    """A file without a valid sidecar is rejected."""
    image.path.with_name("one.qcow2.json").write_text(text)
    assert cache.lookup("one.qcow2") is None


def test_unfinished_files_are_ignored(image: cache.Image, folder: Path) -> None:
    """Unfinished downloads and builds, and sidecars without an image, are ignored."""
    (folder / ".two.qcow2.part").write_bytes(image.path.read_bytes())
    (folder / ".three.qcow2.new").write_bytes(image.path.read_bytes())
    (folder / "four.qcow2.json").write_text(json.dumps({"name": "four"}))
    assert cache.cached() == [image]


def test_remove(image: cache.Image, folder: Path) -> None:
    """Removing deletes the file and its sidecar. Removing again does nothing."""
    cache.remove(image)
    cache.remove(image)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int) -> None:
    """Whatever the umask, a new cache is for its owner alone, and only its owner may change an image."""
    monkeypatch.setenv("SWARM_CACHE", str(tmp_path / "new" / "cache"))
    before = os.umask(umask)
    try:
        image = cache.adopt(qcow2(cache.folder() / ".new"), "one.qcow2", "one")
    finally:
        os.umask(before)
    folders = [image.path.parent, image.path.parent.parent]
    assert [path.stat().st_mode & 0o777 for path in folders] == [0o700, 0o700]
    assert {path.stat().st_mode & 0o777 for path in image.path.parent.iterdir()} == {0o644}
