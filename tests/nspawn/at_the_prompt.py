"""A user at the command line, with host files for machines, inside the machines' network."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swarm import ssh
from swarm.files import private_dir, write_atomically
from swarm.paths import ROOT

if TYPE_CHECKING:
    from tests.conftest import Dirs
    from tools.lab import Machine, World

__all__ = ["Operator", "Ran"]

HOST = """hypervisor: {{uri: "qemu:///system"}}
vm:
  domain: {name}
  hostname: {hostname}
  image: ubuntu-24.04
  memory_mib: 1024
  vcpus: 1
  disk_path: /var/lib/libvirt/images/{name}.qcow2
  disk_size: 20G
  mac: 52:54:00:77:00:{number:02d}
  ip: {ip}
"""
# A small process in between: what a process starts is first as large as itself, and pytest is large.
MEASURE = """import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
open(sys.argv[1], "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""


@dataclass(frozen=True)
class Ran:
    """The result of a command: exit code, output, duration in seconds, and peak memory in KiB."""

    code: int
    out: str
    err: str
    seconds: float
    memory: int


@dataclass(frozen=True)
class Operator:
    """A user with host files for machines, who runs commands inside their network."""

    world: World
    dirs: Dirs

    def add(self, name: str, machine: Machine) -> None:
        """Write the host file of a machine, with the host name that it has, and pin its host key."""
        hostname = machine.ssh("hostname").strip()
        text = HOST.format(name=name, hostname=hostname, number=machine.number, ip=machine.ip)
        (self.dirs.hosts / f"{name}.yaml").write_text(text, encoding="utf-8")
        ssh.pin(self.dirs.hosts / f"{name}.known_hosts", [name], machine.public_key)

    def run(self, *command: str) -> Ran:
        """Run a program to its end. Measure it without the background processes that it leaves."""
        out, err, memory = (self.dirs.state / name for name in ("out", "err", "memory"))
        start = time.monotonic()
        with out.open("wb") as stdout, err.open("wb") as stderr:
            words = [sys.executable, "-c", MEASURE, str(memory), *self.world.inside(*command)]
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=ROOT,
                check=False,
                timeout=600,
            )
        took = time.monotonic() - start
        return Ran(
            done.returncode, out.read_text("utf-8"), err.read_text("utf-8"), took, int(memory.read_text())
        )

    def inv(self, *words: str) -> Ran:
        """Run `./inv` with these arguments."""
        return self.run(sys.executable, "-P", str(ROOT / "swarm" / "__main__.py"), *words)

    @classmethod
    def make(cls, world: World, dirs: Dirs) -> Operator:
        """Return a user whose own key every machine accepts."""
        folder = private_dir(private_dir(dirs.state) / "ssh")
        write_atomically(folder / "id_ed25519", world.key.read_text(), mode=0o600)
        write_atomically(folder / "id_ed25519.pub", world.key.with_suffix(".pub").read_text())
        return cls(world, dirs)

    def close(self) -> None:
        """End the kept connections."""
        for path in (self.dirs.state / "ssh" / "hosts").glob("*.conf"):
            ssh.Guest(path, path.stem).close()
