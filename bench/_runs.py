"""The machines that bench/configure.py configures, and one timed run of one tool on them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, NamedTuple

from bench._connection import Connection
from bench._peers import Peers
from bench._timed import timed
from swarm import ssh

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tools.lab import Machine, World

__all__ = ["RESET", "STATE", "TOOLS", "Bench", "Took"]

TOOLS = ("ansible-core", "pyinfra", "swarm", "ssh true")
_RELAY = "10.77.0.1"  # where the relay listens
_LIMIT = 600.0  # seconds for one run; the slowest, ansible on eight hosts, takes 30 on an idle computer
# As in swarm's own configuration for a guest of the same computer. paramiko, and so pyinfra, offers no such exchange.
_KEX = "-sntrup761*"
RESET = (
    "rm -rf /etc/bench /etc/bench.list /etc/bench.other /var/bench-a /var/bench-b /etc/sysctl.d/*bench* "
    "/etc/sysctl.d/*swarm*; userdel -r bench 2>/dev/null; groupdel benchers 2>/dev/null; "
    "echo 64 >/proc/sys/net/ipv4/ip_default_ttl; echo 60 >/proc/sys/net/ipv4/tcp_fin_timeout"
)
STATE = (
    "cat /etc/bench/*.conf /etc/bench.list /etc/bench.other; "
    "stat -c '%a %U %G %n' /etc/bench/*.conf /etc/bench.list /etc/bench.other; "
    "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/net/ipv4/tcp_fin_timeout; "
    "grep -rhoE '^net[^=]*= *[0-9]+' /etc/sysctl.d/ | tr -d ' ' | sort; "
    "getent passwd bench | cut -d: -f1,6,7; id -nG bench | tr ' ' '\\n' | sort; ls /var/bench-a /var/bench-b"
)


class Took(NamedTuple):
    """The seconds that one run took: by the clock, and of CPU on this side. The latter excludes the machines."""

    seconds: float
    cpu: float


class Bench:
    """The machines and the ways to configure them. Given how many machines to boot, and a folder for all files."""

    def __init__(self, world: World, count: int, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.machines = [world.machine() for _ in range(count)]
        self._peers = Peers(folder)
        self._pins = world.folder / "bench.known_hosts"
        self._write_pins()
        for far in (False, True):
            self._write_config(far=far)

    def _write_pins(self) -> None:
        """Pin the host keys under each name by which ansible or pyinfra may look them up."""
        with self._pins.open("w") as file:
            for machine in self.machines:
                for name in (machine.alias, machine.ip, f"[{_RELAY}]:{_port(machine)}", _RELAY):
                    file.write(f"{name} {machine.public_key}\n")

    def _write_config(self, *, far: bool) -> None:
        """Write one SSH configuration for all machines, and beside it the one that swarm makes for itself."""
        config = self.config(far=far)
        os.environ["SWARM_STATE"] = str(config.with_suffix(".state"))
        entries = []
        for machine in self.machines:
            address, port = (_RELAY, _port(machine)) if far else (machine.ip, 22)
            target = ssh.Target(
                machine.alias, address, self._pins, "root", self.world.key, port=port, near=True
            )
            ssh.write_config(target)
            entries.append(
                f"Host {machine.alias}\n  HostName {address}\n  Port {port}\n  User root\n"
                f"  HostKeyAlias {machine.alias}\n  IdentityFile {self.world.key}\n  IdentitiesOnly yes\n"
                f"  StrictHostKeyChecking yes\n  UserKnownHostsFile {self._pins}\n  KexAlgorithms {_KEX}\n"
            )
        config.write_text("".join(entries))

    def config(self, *, far: bool) -> Path:
        """The SSH configuration at 0 or 20 ms."""
        return self.folder / ("far.config" if far else "near.config")

    def own_config(self, *, far: bool) -> Path:
        """The same as swarm makes it for its own hosts."""
        return self.config(far=far).with_suffix(".state") / "ssh" / "config"

    @contextlib.contextmanager
    def relaying(self) -> Iterator[None]:
        """Run the relay that adds 20 ms during the block."""
        pairs = [f"{_port(machine)}={machine.ip}" for machine in self.machines]
        program = str(Path(__file__).with_name("_relay.py"))
        command = self.world.inside(sys.executable, program, _RELAY, *pairs)
        with subprocess.Popen(command, stdout=subprocess.PIPE) as relay:
            try:
                if relay.stdout is None or relay.stdout.readline() != b"up\n":
                    sys.exit(f"the relay ended with exit code {relay.wait()}")
                yield
            finally:
                relay.terminate()

    def command(
        self, tool: str, names: Sequence[str], *, far: bool, again: bool
    ) -> tuple[list[str], dict[str, str]]:
        """Return the command line and the environment of one run."""
        config = self.config(far=far)
        if tool == "ansible-core":
            return self._peers.ansible(config, names)
        if tool == "pyinfra":
            return self._peers.pyinfra(config, self._pins, names)
        if tool == "swarm":
            program = str(Path(__file__).with_name("ours.py"))
            return [sys.executable, program, str(self.own_config(far=far)), *names], {}
        return self._floor(names, far=far, again=again), {}

    def _floor(self, names: Sequence[str], *, far: bool, again: bool) -> list[str]:
        """Return the least that any tool does: connect to each host, all at once. `again`: as swarm keeps it."""
        own = self.own_config(far=far)
        if again:
            calls = [["ssh", "-F", str(own), *Connection(own, name).options(), name] for name in names]
        else:
            calls = [["ssh", "-F", str(self.config(far=far)), name] for name in names]
        return ["sh", "-c", "".join(f"{join(words)} true & " for words in calls) + "wait"]

    def run(self, tool: str, count: int, *, far: bool, again: bool = False) -> Took:
        """Run a tool on the first `count` machines. `again`: with the connections that it kept. Return what it took."""
        names = [machine.alias for machine in self.machines[:count]]
        if not again:
            self.forget(tool, names, far=far)
        command, variables = self.command(tool, names, far=far, again=again)
        done = timed(self.world.inside(*command), variables, self.folder, _LIMIT)
        if done.code:
            sys.exit(f"{tool} failed:\n{done.words}")
        return Took(done.seconds, done.cpu)

    def forget(self, tool: str, names: Sequence[str], *, far: bool) -> None:
        """End every connection that the tool keeps, so that its next run makes new ones."""
        if tool == "swarm":
            for name in names:
                Connection(self.own_config(far=far), name).close()
        if tool == "ansible-core":
            for path in (self.folder / ".ansible" / "cp").glob("*"):
                end = self.world.inside("ssh", "-o", f"ControlPath={path}", "-O", "exit", "any")
                subprocess.run(end, check=False, capture_output=True, timeout=_LIMIT)

    def forget_all(self) -> None:
        """End every connection that any tool keeps."""
        names = [machine.alias for machine in self.machines]
        for far in (False, True):
            for tool in TOOLS:
                self.forget(tool, names, far=far)

    def each(self, script: str, count: int) -> list[str]:
        """Run a shell script on the first `count` machines, outside any measurement. Return their outputs."""
        return [machine.ssh(script) for machine in self.machines[:count]]


def _port(machine: Machine) -> int:
    """Return the relay's port for a machine."""
    return 2200 + machine.number
