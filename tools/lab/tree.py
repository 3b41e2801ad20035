"""The bare Debian system that every machine starts as a copy of. It is built once and cached."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from pathlib import Path

from swarm.deadline import Deadline
from swarm.locks import hold
from tools.lab.process import run

__all__ = ["CACHE", "base_tree"]

CACHE = Path("/var/cache/swarm-tests")
_RELEASE = "bookworm"
_EDITION = 5  # raise it when the tree changes
_LIMIT = 1800.0  # seconds to build a tree, or to wait while another process builds it
_PACKAGES = (
    "rsync",  # backup and restore use it
    "ca-certificates",
    "curl",
    "dbus-user-session",
    "iproute2",
    "libpam-systemd",
    "openssh-server",
    "procps",
    "python3",  # as on cloud images; ansible needs it
    "sudo",
    "systemd-sysv",
    "tzdata",
)


def base_tree(release: str = _RELEASE) -> Path:
    """Return the directory with the bare system of a Debian release. Build it on first use. Raise LabError."""
    CACHE.mkdir(parents=True, exist_ok=True)
    tree = CACHE / f"{release}-{_EDITION}"
    if not tree.exists():
        with hold(CACHE / "lock", deadline=Deadline(_LIMIT)):
            if not tree.exists():
                _build(tree, release)
    return tree


def _build(tree: Path, release: str) -> None:
    for stale in CACHE.glob("tree-*"):  # of a build that was killed: whoever builds has the lock
        shutil.rmtree(stale, ignore_errors=True)
    fresh = Path(tempfile.mkdtemp(prefix="tree-", dir=CACHE))
    fresh.chmod(0o755)
    skip = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale")]
    include = "--include=" + ",".join(_PACKAGES)
    options = ("--mode=root", "--variant=important", include, *skip)
    run("nice", "mmdebstrap", *options, release, fresh / "root", *_sources(release), limit=_LIMIT)
    _finish(fresh / "root")
    (fresh / "root").rename(tree)
    fresh.rmdir()


def _sources(release: str) -> list[Path]:
    """Return this computer's package sources if they are of that release. mmdebstrap has defaults for the others."""
    if platform.freedesktop_os_release().get("VERSION_CODENAME") != release:
        return []
    return list(Path("/etc/apt/sources.list.d").glob("debian*.sources")) or [Path("/etc/apt/sources.list")]


def _finish(root: Path) -> None:
    """Give the tree this computer's way to the registries and a host name, and remove its SSH host keys."""
    for name in Path("/usr/local/share/ca-certificates").glob(
        "*.crt"
    ):  # registries with a certificate of their own
        shutil.copy(name, root / "usr/local/share/ca-certificates")
    for name in Path("/etc/apt/apt.conf.d").glob("*registry*"):
        shutil.copy(name, root / "etc/apt/apt.conf.d")
    run("chroot", root, "update-ca-certificates")
    run("chroot", root, "apt-get", "update")
    (root / "etc/hostname").write_text("guest\n")
    if "NODE_EXTRA_CA_CERTS" in os.environ:
        (root / "etc/environment").write_text("NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt\n")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
