"""Separate control groups for each machine.

By default, systemd-nspawn --keep-unit puts every guest into the same group, `payload` below the caller's. The systemd
of one machine then finds the processes of all other machines in the groups of its own units.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tools.lab.process import run

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["make_groups", "remove_groups", "run_in"]

_ROOT = Path("/sys/fs/cgroup")
_HYBRID = {
    "": "unified",
    "name=systemd": "systemd",
}  # the hierarchies in which systemd keeps its units, and their folders
_ENTER = 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@"'


def make_groups(name: str) -> list[Path]:
    """Make a group called `name` below this process's own, in each hierarchy that systemd uses. Return the folders."""
    groups = [parent / name for parent in _own_groups()]
    for group in groups:
        group.mkdir(exist_ok=True)
    return groups


def _own_groups() -> Iterator[Path]:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in _HYBRID:
            hybrid = _ROOT / _HYBRID[controllers]
            yield (hybrid if hybrid.is_dir() else _ROOT) / path.lstrip("/")


def run_in(groups: list[Path], command: list[str]) -> list[str]:
    """Return `command` as one that runs in these groups."""
    return ["sh", "-c", _ENTER, "sh", *map(str, groups), "--", *command]


def remove_groups(name: str) -> None:
    """Remove the groups called `name` with all that are in them, wherever they are. Those with processes stay."""
    inside = ("(", "-path", f"*/{name}", "-o", "-path", f"*/{name}/*", ")")
    run("find", _ROOT, "-depth", "-type", "d", *inside, "-delete", check=False)
