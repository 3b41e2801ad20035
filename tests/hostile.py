"""Guests that lie, for tests: one real sshd, in a network of its own, whose login shell is tests/player.py."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from swarm import ssh
from swarm.paths import ROOT
from tests.fleet import network
from tests.sshd import Sshd

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.conftest import Dirs

__all__ = ["Ran", "World", "world"]

# The version is fixed, since looking one up needs a network.
_FILE = """hypervisor: {{uri: none}}
machine: {{address: {address}, hostname: {hostname}}}
openclaw: {{version: "2026.9.6"}}
"""
_PLAYER = Path(__file__).with_name("player.py")
_EVERY = 0.05  # seconds between two measurements of the memory
_MIB = 1 << 20
_ID = 1501  # the account's user and group


class _Server(Sshd):
    """An sshd with a banner of control characters, which lets nobody in at the addresses in `closed`."""

    closed: Sequence[str] = ()

    def _config(self, unpacked: Path | None) -> str:
        self._write("banner", "\x1b[2Jwelcome\x9b31m\u202e\n" * 100, 0o644)
        refused = [f"Match LocalAddress {each}\n  AuthorizedKeysFile none\n" for each in self.closed]
        return f'{super()._config(unpacked)}Banner "{self.folder}/banner"\n{"".join(refused)}'


@dataclass(frozen=True)
class Ran:
    """A command that has ended: exit code, data, talk, and the most memory that it took, in MiB.

    The memory is that of all processes that the command has started, and of those that it left behind.
    """

    code: int
    out: str
    err: str
    memory: float

    @property
    def shown(self) -> str:
        """Everything that a terminal would show."""
        return self.out + self.err


class _Scale:
    """Measures, while the block runs, the memory of every process with the variable `mark` in its environment."""

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode()
        self._ours: dict[int, bool] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.most = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.weigh()
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(_EVERY):
            self.weigh()

    def weigh(self) -> None:
        """Measure once."""
        self.most = max(self.most, sum(_size(pid) for pid in self.processes()))

    def processes(self) -> list[int]:
        """Return the processes that there are now."""
        return [int(path.name) for path in Path("/proc").glob("[0-9]*") if self._is_ours(path)]

    def _is_ours(self, path: Path) -> bool:
        pid = int(path.name)
        if not self._ours.get(pid):  # a process has its parent's environment until it is replaced
            try:
                self._ours[pid] = self._mark in (path / "environ").read_bytes().split(b"\0")
            except OSError:
                return False
        return self._ours[pid]


def _size(pid: int) -> int:
    """Return the bytes that a process holds: its share of memory, and files that only exist in memory."""
    folder = Path(f"/proc/{pid}")
    with contextlib.suppress(OSError, ValueError):
        lines = (folder / "smaps_rollup").read_text().splitlines()
        held = sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
        for each in (folder / "fd").iterdir():
            with contextlib.suppress(OSError):
                name = str(each.readlink())
                if name.startswith("/memfd:") or name.endswith("(deleted)"):
                    held += each.stat().st_blocks * 512
        return held
    return 0


@dataclass(frozen=True)
class World:
    """The server, the PID of the network's owner, and the folder of the player."""

    server: Sshd
    owner: int
    dirs: Dirs
    folder: Path

    def inv(self, *words: str, timeout: float = 60, **extra: str) -> Ran:
        """Run `inv` within the network, without a terminal. Afterwards, end the connections that it keeps."""
        (self.folder / "seen").unlink(missing_ok=True)
        program = [sys.executable, "-P", str(ROOT / "swarm" / "__main__.py"), *words]
        mark = f"SWARM_STATE={self.dirs.state}"
        with _Scale(mark) as scale:
            done = subprocess.run(
                ["nsenter", f"--net=/proc/{self.owner}/ns/net", *program],
                capture_output=True,
                stdin=subprocess.DEVNULL,
                check=False,
                timeout=timeout,
                env={**os.environ, "SWARM_LITELLM": str(self.dirs.state / "litellm"), **extra},
            )
        self.close(words[-1].split(","))
        out, err = (stream.decode("utf-8", "replace") for stream in (done.stdout, done.stderr))
        return Ran(done.returncode, out, err, scale.most / _MIB)

    def close(self, names: Sequence[str]) -> None:
        """End the kept connections of hosts."""
        for name in names:
            if ssh.part_path(name).exists():
                ssh.Guest(ssh.part_path(name), name).close()


@contextlib.contextmanager
def world(folder: Path, dirs: Dirs, names: Sequence[str], refused: Sequence[str] = ()) -> Iterator[World]:
    """Write a host file for each name, and run the server that plays each as its name says.

    The hosts in `refused` let nobody in.
    """
    public = ssh.own_key().with_suffix(".pub").read_text(encoding="utf-8")
    addresses = {name: f"192.168.122.{number}" for number, name in enumerate([*names, *refused], 2)}
    plays = {address: name for name, address in addresses.items()}
    (folder / "behaviors.json").write_text(json.dumps(plays), encoding="utf-8")
    player = folder / "player"
    player.write_text(f"#!{sys.executable} -IS\n{_PLAYER.read_text(encoding='utf-8')}", encoding="utf-8")
    player.chmod(0o755)
    with network() as owner:
        server = _Server(folder / "sshd", [public], within=owner, fixed="0.0.0.0")  # noqa: S104 - its own network
        server.closed = [addresses[name] for name in refused]
        with server:
            _log_into(server, player)
            for name, address in addresses.items():
                text = _FILE.format(address=address, hostname=socket.gethostname())
                (dirs.hosts / f"{name}.yaml").write_text(text, encoding="utf-8")
                ssh.pin(dirs.hosts / f"{name}.known_hosts", [name], server.public)
            yield World(server, owner, dirs, folder)


def _log_into(server: Sshd, shell: Path) -> None:
    """Give the server's root the login shell `shell`, and make an account for OpenClaw."""
    accounts = server.folder / "passwd"
    lines = accounts.read_text(encoding="utf-8").splitlines()
    lines = [
        f"root:x:0:0:root:{shell.parent}:{shell}" if each.startswith("root:") else each for each in lines
    ]
    lines.append(f"openclaw:x:{_ID}:{_ID}::/home/openclaw:/bin/sh")
    accounts.write_text("\n".join(lines) + "\n", encoding="utf-8")  # in place: it is bound over /etc/passwd
