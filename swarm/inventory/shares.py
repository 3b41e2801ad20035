"""Which folders may not be shared with a guest, which writes into its share with any owner and mode."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from swarm.errors import Unfit
from swarm.paths import ROOT, hosts_dir, mirrors_dir, shares_dir, state_dir

__all__ = ["of_system", "own_share", "unfit_share"]

# Whoever writes here is root on the machine, or soon will be.
_SYSTEM = frozenset(
    ("/", "/home", "/lib64", "/opt", "/root", "/srv", "/tmp", "/var", "/var/lib")  # noqa: S108 - a forbidden share
)
_BELOW = (
    "/bin/",
    "/boot/",
    "/dev/",
    "/etc/",
    "/lib/",
    "/proc/",
    "/run/",
    "/sbin/",
    "/sys/",
    "/usr/",
)  # and these
_PRIVATE = (".ssh", ".gnupg", ".aws", ".config", ".local", ".cache", ".kube", ".docker")  # in a home


def unfit_share(source: Path, *, here: bool) -> str:
    """Say why a folder may not be shared; empty if it may. `here`: it is a folder of this machine."""
    folder = os.path.normpath(source)
    if of_system(folder):
        return f"{folder} is a folder of the system"
    real = _real(Path(folder))
    if not here or own_share(real):
        return ""
    return _unfit_here(folder, real)


def _unfit_here(folder: str, real: Path) -> str:
    if of_system(str(real)):
        return f"{folder} leads to {real}, a folder of the system"
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - without a home it stays ~, and Path.home() raises
    if home.is_relative_to(real):
        return f"{folder} holds your home directory"
    if real.is_relative_to(home) and real.relative_to(home).parts[0] in _PRIVATE:
        return f"{folder} holds keys or settings of programs"
    for own, words in _own():
        if own.is_relative_to(real) or real.is_relative_to(own):
            return f"{folder} {words}"
    return ""


def own_share(source: Path) -> bool:
    """Whether a folder is one of the shares that swarm makes."""
    with contextlib.suppress(Unfit):  # there is no home, so there are no such shares
        return _real(shares_dir()) in _real(source).parents
    return False


def of_system(folder: str) -> bool:
    """Whether a folder is one that programs of the system use, so that nothing else may be put there."""
    return folder in _SYSTEM or f"{folder}/".startswith(_BELOW)


def _real(path: Path) -> Path:
    """Return where a path leads. Path.resolve() raises RuntimeError for a loop of links, which leads nowhere."""
    return Path(os.path.realpath(path))


def _own() -> list[tuple[Path, str]]:
    """Return the folders of swarm's own, and how a message names them."""
    found = [
        (ROOT, "holds swarm itself, or is in it"),
        (hosts_dir(), "holds the host files"),
        (mirrors_dir(), "holds mirrors"),
    ]
    with contextlib.suppress(Unfit):  # there is no home, so nothing is there either
        found.append((state_dir(), "holds swarm's state"))
    return [(_real(path), words) for path, words in found]
