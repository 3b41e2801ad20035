"""The directory of finished images. A sidecar file holds each image's checksum, so that it is computed only once.

The sidecar is written before the image gets its name. A visible image is therefore complete, even if a run
was killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarm import paths
from swarm.errors import ImageError, Unfit
from swarm.files import private_dir
from swarm.locks import hold

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.console import Meter, Talk

__all__ = ["Image", "adopt", "cached", "digest", "folder", "lock", "lookup", "remove"]

_SUFFIX = ".qcow2"
_CHUNK = 4 << 20
_MODE = 0o644  # of images and sidecars, whatever the umask: nobody but their owner may change them


@dataclass(frozen=True)
class Image:
    """One qcow2 file of the cache. `size` is the size of the file and `virtual_size` that of the disk, in bytes."""

    name: str
    path: Path
    sha256: str
    size: int
    virtual_size: int


def folder() -> Path:
    """Return the image directory. Create it if it is missing."""
    return private_dir(paths.cache_dir() / "images")


def lookup(file_name: str) -> Image | None:
    """Return the finished image in the file `file_name`, or None if it is missing or has changed.

    Compare the file's size and modification time with the sidecar. Compute the checksum only if the time differs.
    """
    path = folder() / file_name
    try:
        about, stat = json.loads(_sidecar(path).read_text(encoding="utf-8")), path.stat()
        image = Image(about["name"], path, about["sha256"], about["size"], about["virtual_size"])
        if stat.st_size != image.size:
            return None
        if stat.st_mtime_ns != about["mtime_ns"]:  # copied, touched or changed
            if digest(path, "sha256") != image.sha256:
                return None
            _write_sidecar(path, path, image)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return image


def cached() -> list[Image]:
    """Return all finished images, sorted by file name."""
    found = (lookup(path.name) for path in sorted(folder().glob(f"[!.]*{_SUFFIX}")))
    return [image for image in found if image]


def remove(image: Image) -> None:
    """Delete an image from the cache. Do nothing if it is already deleted."""
    image.path.unlink(missing_ok=True)
    _sidecar(image.path).unlink(missing_ok=True)


def adopt(temporary: Path, file_name: str, name: str, meter: Meter | None = None) -> Image:
    """Promote the complete file `temporary` to the cached image `name`, in the file `file_name`.

    Raise ImageError and delete the file if it is not a self-contained qcow2 file. Raise Unfit and keep it if that
    cannot be checked.
    """
    try:
        virtual_size = _inspect(temporary, name)
    except ImageError:
        temporary.unlink()
        raise
    with temporary.open("rb") as file:
        os.fchmod(file.fileno(), _MODE)
        os.fsync(file.fileno())  # otherwise a power cut could leave the name and the sidecar without the data
    path = folder() / file_name
    image = Image(name, path, digest(temporary, "sha256", meter), temporary.stat().st_size, virtual_size)
    _write_sidecar(path, temporary, image)
    temporary.replace(path)
    return image


def digest(path: Path, algorithm: str, meter: Meter | None = None) -> str:
    """Return the checksum of a file in hexadecimal. Show the progress on `meter`."""
    state, done, size = hashlib.new(algorithm), 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            state.update(chunk)
            done += len(chunk)
            if meter:
                meter.advance(done, size)
    return state.hexdigest()


@contextmanager
def lock(name: str, talk: Talk) -> Iterator[bool]:
    """Hold the lock of the image `name` during the block. Yield whether it had to wait for another holder."""
    doing = f"waiting for another run that is getting image {name}"
    with hold(folder() / f".{name}.lock", waiting=lambda: talk.step(doing)) as held:
        yield held.waited


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _write_sidecar(path: Path, file: Path, image: Image) -> None:
    about = {
        "name": image.name,
        "sha256": image.sha256,
        "size": image.size,
        "virtual_size": image.virtual_size,
        "mtime_ns": file.stat().st_mtime_ns,
    }
    handle, temporary = tempfile.mkstemp(prefix=".sidecar-", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        os.fchmod(handle, _MODE)
        json.dump(about, out)
    Path(temporary).replace(_sidecar(path))


def _inspect(path: Path, name: str) -> int:
    """Return the virtual size of a qcow2 file. Refuse one that would make QEMU open other files."""
    with path.open("rb") as file:
        if file.read(4) != b"QFI\xfb":
            raise ImageError(
                f"image {name} is not a qcow2 file",
                "the publisher may have changed the format: report this to swarm",
            )
    try:
        done = subprocess.run(
            ["qemu-img", "info", "-f", "qcow2", "--output=json", str(path)],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise Unfit(
            "checking an image needs qemu-img, which is not installed", "apt-get install qemu-utils"
        ) from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        if (
            done.returncode < 0 or not said
        ):  # killed, perhaps for want of memory, which says nothing of the image
            raise Unfit(
                f"image {name} cannot be checked: qemu-img ended with exit code {done.returncode}",
                "run the same command again",
            )
        raise ImageError(f"image {name} is damaged: {said[-1]}", "run the same command again")
    about: dict[str, Any] = json.loads(done.stdout)
    if "backing-filename" in about or about.get("format-specific", {}).get("data", {}).get("data-file"):
        raise ImageError(
            f"image {name} refers to another file",
            "use a self-contained qcow2 image",
        )
    return int(about["virtual-size"])
