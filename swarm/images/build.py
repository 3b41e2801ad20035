"""Builds a Secure-Boot bootable image from the packages of this machine's distribution.

This half runs as the person and shows progress; the other one, `swarm.images.builder`, runs as root.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from swarm.errors import ImageError, Unfit
from swarm.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.console import Meter, Talk
    from swarm.images.recipe import Recipe

__all__ = ["PROGRAMS", "SPACE", "as_root", "build"]

# Seen on Debian 12: the tree (0.8 GB), the raw disk (0.8 GB) and the image (0.8 GB) at once; the rest is for
# larger kernels.
SPACE = 4 << 30

# What a build runs, and the packages that bring it.
PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "unshare": "util-linux",
    "sfdisk": "fdisk",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "mkfs.ext4": "e2fsprogs",
    "qemu-img": "qemu-utils",
}

# sudo clears the environment; these say how to reach the package mirror.
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")
_NO_ROOT = "run this as root, or name a published image in the host file, like ubuntu-24.04"


def as_root(argv: list[str]) -> list[str]:
    """Return `argv` as a command that runs as root, through sudo if necessary. Raise Unfit without sudo."""
    if os.geteuid() == 0:
        return argv
    if not shutil.which("sudo"):
        raise Unfit("building an image needs root, and there is no sudo here", _NO_ROOT)
    proxies = [name for name in _PROXIES if name in os.environ]
    return ["sudo", *([f"--preserve-env={','.join(proxies)}"] if proxies else []), *argv]


def build(what: Recipe, folder: Path, talk: Talk) -> Path:
    """Build the image `what` in `folder` and return the file, whose name begins with a dot.

    Raise Unfit if a program, root or space is missing, and ImageError if the build fails.
    """
    _check(folder)
    target = folder / f".{what.file_name}.new"
    argv = as_root(
        [sys.executable, "-B", "-m", "swarm.images.builder", str(target), f"{os.geteuid()}:{os.getegid()}"]
    )
    if (
        argv[0] == "sudo" and subprocess.run(["sudo", "--validate"], check=False).returncode
    ):  # it may ask: not amid a progress display
        raise Unfit("building an image needs root, and sudo refused", _NO_ROOT)
    with talk.step(f"building image {what.name}") as meter:
        # The builder stops when its stdin ends, so it does not outlive this process.
        with subprocess.Popen(
            argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdin  # noqa: S101 - it was asked for
            try:
                end = _follow(process, meter)
            finally:
                process.stdin.close()
                process.wait()  # until it has cleaned up, also after Ctrl-C
        if "error" in end:
            raise ImageError(end["error"], end["hint"])
        if "done" not in end:
            raise ImageError(
                f"building {what.name} was interrupted{end['said']}", "run the same command again"
            )
    return target


def _check(folder: Path) -> None:
    places = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # a user's PATH often misses the last two
    missing = sorted(
        {package for program, package in PROGRAMS.items() if not shutil.which(program, path=places)}
    )
    if missing:
        raise Unfit(f"building an image needs {', '.join(missing)}", f"apt-get install {' '.join(missing)}")
    if (free := shutil.disk_usage(folder).free) < SPACE:
        raise Unfit(
            f"building an image needs {SPACE >> 30} GiB of space, and {folder} has {free / (1 << 30):.1f} GiB free",
            "make room, or move the cache with SWARM_CACHE",
        )


def _follow(process: subprocess.Popen[str], meter: Meter) -> dict[str, Any]:
    """Show the builder's reports and return the last one. `said` holds the last output of other programs."""
    assert process.stdout  # noqa: S101 - it was asked for
    phase, said = "", deque[str](maxlen=3)
    end: dict[str, Any] = {}
    for line in process.stdout:
        try:
            report = json.loads(line)
        except ValueError:
            said.append(line.strip())
            continue
        phase = report.get("phase", phase)
        meter.note(f"{phase}: {report['line']}" if "line" in report else phase)
        if "error" in report or "done" in report:
            end = report
    return end or {"said": f": {'; '.join(said)}" if said else ""}
