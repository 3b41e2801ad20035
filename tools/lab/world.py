"""The network that machines share, and what is left of networks whose owner was killed."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from swarm.locks import Lock, try_lock
from tools.lab.cgroups import remove_groups
from tools.lab.machine import Machine
from tools.lab.process import LabError, end, run, users
from tools.lab.tree import base_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["World"]

_FOLDERS = Path("/var/tmp")  # noqa: S108 - only root's own directories, made by mkdtemp, are used in it
_PREFIX = "swarm-nspawn-"


class World:
    """The network that machines share, and from which they are reached. Use it as a context.

    It holds a lock for as long as its process lives. What a killed process has left is removed by the next World.
    """

    def __init__(self) -> None:
        _sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_FOLDERS))
        self.folder.chmod(0o755)
        self.name = _name(self.folder)
        self.machines: list[Machine] = []
        self._made = 0
        self._lock = _claim(self.folder)
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise

    def _set_up(self) -> None:
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f", self.key)
        run("ip", "netns", "add", self.name)
        run("ip", "-n", self.name, "link", "set", "lo", "up")
        run("ip", "-n", self.name, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.name, "addr", "add", "10.77.0.1/24", "dev", "br0")
        run("ip", "-n", self.name, "link", "set", "br0", "up")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every machine and remove the network. What fails to go does not keep the rest."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._lock.release)
            stack.callback(_remove, self.folder)
            for machine in self.machines:
                stack.callback(machine.stop)

    @property
    def key(self) -> Path:
        """The private key that every machine accepts for root."""
        return self.folder / "key"

    def machine(
        self, tree: Path | None = None, *, internet: bool = False, binds: tuple[str, ...] = ()
    ) -> Machine:
        """Boot one more machine from a copy of `tree` (default: the bare system) and return it when it is up.

        `internet` gives it a way to the package registries. `binds` are files of this computer, such as a device,
        that it shares. Raise LabError, with the machine's last output, if it does not come up.
        """
        machine = Machine(self, self._made, tree or base_tree(), internet=internet, binds=binds)
        self._made += 1
        self.machines.append(machine)
        try:
            machine.boot()
        except BaseException:
            self.discard(machine)
            raise
        return machine

    def discard(self, machine: Machine) -> None:
        """End a machine and remove its files."""
        self.machines.remove(machine)
        machine.stop()
        _delete(machine.root)

    def inside(self, *command: str | Path) -> list[str]:
        """Return the command that runs `command` in this network."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *(str(word) for word in command)]


def _name(folder: Path) -> str:
    """Return the name of the network namespace that belongs to a World's folder."""
    return "w" + folder.name[-6:].lower().replace("_", "x")


def _claim(folder: Path) -> Lock:
    """Lock a new folder. The file is renamed once it is locked, so that no other process can find it unlocked."""
    lock = try_lock(folder / "lock.new")
    if lock is None:
        raise LabError(f"another process has locked {folder}")
    (folder / "lock.new").rename(folder / "lock")
    return lock


def _sweep() -> None:
    """Remove what killed processes have left: machines, namespaces and folders.

    What cannot be removed now is left for the next time. It does no harm, since every World has its own names.
    """
    for folder in _FOLDERS.glob(f"{_PREFIX}*"):
        if (lock := _abandoned(folder)) is not None:
            with lock, contextlib.suppress(LabError):
                _remove(folder)


def _abandoned(folder: Path) -> Lock | None:
    """Return the lock of a folder whose owner has ended, None if the owner lives."""
    with contextlib.suppress(OSError):  # another process is removing it
        return try_lock(folder / "lock") if (folder / "lock").is_file() else None
    return None


def _remove(folder: Path) -> None:
    """End every process that belongs to a World, then remove its namespaces and its folder."""
    name = _name(folder)
    for namespace in _namespaces(name):
        end(int(pid) for pid in run("ip", "netns", "pids", namespace, check=False).split())
    end(users(lambda word: word.startswith(f"{folder}/")))
    for namespace in _namespaces(name):
        run("ip", "netns", "del", namespace, check=False)
        remove_groups(f"swarm-{namespace}")
    _delete(folder)


def _delete(folder: Path) -> None:
    """Remove a folder of up to 200,000 files, which takes Python's own function several times as long as rm."""
    run("rm", "-rf", "--one-file-system", folder, check=False)


def _namespaces(name: str) -> Iterator[str]:
    for path in Path("/run/netns").glob(f"{name}*"):
        if path.name == name or path.name.startswith(f"{name}-"):
            yield path.name
