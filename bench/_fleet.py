"""The hosts of bench/fleet.py: many names on a few machines, and one measured run of one tool on some of them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench._peers import Peers
from bench._timed import timed
from bench.ours import COMMANDS, FILES, LINES, OWNER, SYSCTLS
from swarm import inventory, ssh
from swarm.files import private_dir, write_atomically
from swarm.paths import ROOT
from swarm.ssh.guest import Guest
from swarm.vm import desired
from tools.lab import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.lab import World

__all__ = ["Fleet", "Used"]

_AT_ONCE = 16  # hosts, as in swarm/commands/run.py
_STATUS_AT_ONCE = 64  # as in swarm/commands/status.py, since a status mostly waits
_LIMIT = 3600.0  # seconds for one run; ansible-core on 256 hosts takes many minutes
_EVERY = 0.1  # seconds between two looks at the memory
_NET = "10.78"  # the first half of the hosts' addresses
_DOMAIN = """<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory>524288</memory><vcpu>1</vcpu>
<os><type>hvm</type></os><devices><disk type='file'><source file='/srv/{name}.qcow2'/><target dev='vda'/></disk>
<interface type='network'><mac address='{mac}'/><source network='default'/></interface></devices></domain>"""
_KEX = "-sntrup761*"  # as in bench/_runs.py


class Used(NamedTuple):
    """What one run used: seconds by the clock, seconds of CPU on this side, and MiB of memory at its peak."""

    seconds: float
    cpu: float
    memory: float


class Fleet:
    """Hosts by the number of `sizes`, on `count` machines. All files are in `folder`."""

    tools = ("ssh true", "swarm status", "swarm plan", "swarm customize", "pyinfra", "ansible-core")

    def __init__(self, world: World, count: int, folder: Path, sizes: list[int]) -> None:
        self.world, self.folder = world, folder
        os.environ["SWARM_STATE"] = str(folder / "state")  # where forget() finds the kept connections
        self.machines = [world.machine() for _ in range(count)]
        self.names = [f"host{number:03d}" for number in range(max(sizes))]
        self._peers = Peers(folder)
        self._pins = folder / "known_hosts"
        self._config = folder / "ssh_config"
        self._give_addresses()
        self._write_config()
        for size in sizes:
            self._write_hosts(self._hosts(size), size)
        keys = private_dir(private_dir(folder / "state") / "ssh")
        write_atomically(keys / "id_ed25519", world.key.read_text(), mode=0o600)
        write_atomically(keys / "id_ed25519.pub", world.key.with_suffix(".pub").read_text())
        for machine in self.machines:
            machine.ssh("id openclaw >/dev/null 2>&1 || useradd -m openclaw")

    def _names(self, size: int) -> Path:
        path = self.folder / f"names{size}"
        path.write_text("\n".join(self.names[:size]) + "\n", encoding="utf-8")
        return path

    def _hosts(self, size: int) -> Path:
        return self.folder / f"hosts{size}"

    def _give_addresses(self) -> None:
        """Give each name an address of its own: two hosts may not have the same one."""
        run("ip", "-n", self.world.name, "addr", "add", f"{_NET}.0.1/16", "dev", "br0")
        for number, machine in enumerate(self.machines):
            own = [_address(each) for each in range(number, len(self.names), len(self.machines))]
            add = "".join(f"ip addr add {address}/16 dev $dev\n" for address in own)
            machine.ssh(f"dev=$(ip -o route get 10.77.0.1 | sed -n 's/.* dev \\([^ ]*\\).*/\\1/p')\n{add}")

    def _write_config(self) -> None:
        pins, entries = [], []
        for number, name in enumerate(self.names):
            machine = self.machines[number % len(self.machines)]
            pins += [f"{alias} {machine.public_key}\n" for alias in (name, _address(number))]
            entries.append(
                f"Host {name}\n  HostName {_address(number)}\n  User root\n  HostKeyAlias {name}\n"
                f"  IdentityFile {self.world.key}\n  IdentitiesOnly yes\n  StrictHostKeyChecking yes\n"
                f"  UserKnownHostsFile {self._pins}\n  KexAlgorithms {_KEX}\n"
            )
        self._pins.write_text("".join(dict.fromkeys(pins)))
        self._config.write_text("".join(entries))

    def _write_hosts(self, folder: Path, size: int) -> None:
        """Write a host file and a pinned key for each name. The steps are the peers', as `customize` states them.

        Their hypervisor is libvirt's test driver on this computer, in which each has a running domain. So swarm uses
        the same key exchange as in bench/configure.py, which is the peers' here, too.
        """
        folder.mkdir()
        node, domains = folder / "node.xml", []
        # The machines share this computer's kernel, so its setting stays as it is.
        guest = {"customize": _steps(), "swappiness": int(Path("/proc/sys/vm/swappiness").read_text())}
        os.environ["SWARM_HOSTS"] = str(folder)
        for number, name in enumerate(self.names[:size]):
            vm = {
                "domain": name,
                "hostname": name,
                "ip": _address(number),
                "memory_mib": 512,
                "vcpus": 1,
                "disk_path": f"/srv/{name}.qcow2",
                "disk_size": "1G",
                "mac": _mac(number),
            }
            tree = {
                "hypervisor": {"uri": f"test://{node}"},
                "vm": vm,
                "guest": guest,
                "openclaw": {"nodejs_source": "npm", "docker_source": "distribution"},
            }
            text = json.dumps(tree, indent=1)  # which is YAML, too
            (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
            machine = self.machines[number % len(self.machines)]
            ssh.pin(folder / f"{name}.known_hosts", [name], machine.public_key)
            uuid = desired.domain_uuid(inventory.load(name))
            domains.append(_DOMAIN.format(name=name, uuid=uuid, mac=_mac(number)))
        node.write_text(f"<node>{''.join(domains)}</node>", encoding="utf-8")

    def settle(self, tool: str) -> None:
        """Bring every machine to the tool's own end state, so that nothing is left to change. Not measured."""
        if tool in {"pyinfra", "ansible-core", "swarm customize"}:
            self._execute(*self._command(tool, len(self.machines)))

    def run(self, tool: str, size: int) -> Used:
        """Run a tool on the first `size` hosts, over new connections.

        Time and memory come from separate runs. The peers' memory is not measured: ansible-core takes many minutes.
        """
        command, variables = self._command(tool, size)
        self.forget()
        seconds, cpu = self._execute(command, variables)
        if not tool.startswith("swarm"):
            return Used(seconds, cpu, 0.0)
        self.forget()
        with self._watching() as peak:
            self._execute(command, variables)
        return Used(seconds, cpu, peak[0])

    def _command(self, tool: str, size: int) -> tuple[list[str], dict[str, str]]:
        names = self.names[:size]
        if tool == "ssh true":  # the floor: connect to each host and do nothing
            each = f"ssh -F {self._config} {{}} true"
            return [
                "xargs",
                "-a",
                str(self._names(size)),
                "-P",
                str(_STATUS_AT_ONCE),
                "-I{}",
                "sh",
                "-c",
                each,
            ], {}
        if tool == "ansible-core":
            return self._peers.ansible(self._config, names, forks=_AT_ONCE)
        if tool == "pyinfra":
            return self._peers.pyinfra(self._config, self._pins, names, parallel=_AT_ONCE)
        folder = self._hosts(size)
        if not folder.exists():  # while settling, with fewer machines than any size
            self._write_hosts(folder, size)
        state = {"SWARM_HOSTS": str(folder), "SWARM_STATE": str(self.folder / "state")}
        words = [sys.executable, "-P", str(ROOT / "swarm" / "__main__.py"), tool.removeprefix("swarm ")]
        # The test driver can't answer all that a plan of the VM asks.
        words += ["--only", "guest"] if tool == "swarm plan" else []
        return [*words, "--host", "all"], {**state, "SWARM_CACHE": str(self.folder / "cache")}

    def _execute(self, command: list[str], variables: dict[str, str]) -> tuple[float, float]:
        """Run a command to its end. Return its seconds, and those of CPU. Exit with its last words if it fails."""
        done = timed(self.world.inside(*command), variables, self.folder, _LIMIT)
        # 2 is a plan with changes, and 1 a status that a person should see to.
        if done.code not in {0, 2} and "status" not in command:
            sys.exit(f"{command} failed:\n{done.words}")
        return done.seconds, done.cpu

    @contextlib.contextmanager
    def _watching(self) -> Iterator[list[float]]:
        """Give the peak, in MiB, of the memory of all that is started during the block, kept connections included."""
        peak, over = [0.0], threading.Event()

        def watch() -> None:
            while not over.is_set():
                own = sum(_memory(pid) for pid in _processes(str(self.folder)))
                peak[0] = max(peak[0], own / 1024)
                over.wait(_EVERY)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield peak
        finally:
            over.set()
            watcher.join()

    def forget(self) -> None:
        """End the connections that a tool keeps, so that its next run makes new ones."""
        for path in sorted((self.folder / "state" / "ssh" / "hosts").glob("*.conf")):
            Guest(path, path.stem).close()
        for path in (self.folder / ".ansible" / "cp").glob("*"):
            end = self.world.inside("ssh", "-o", f"ControlPath={path}", "-O", "exit", "any")
            subprocess.run(end, check=False, capture_output=True, timeout=60)


def _steps() -> list[dict[str, object]]:
    """The twelve steps of bench/ours.py that `customize` has words for, as items of a host file."""
    texts = {path: text.replace("{{ owner }}", OWNER) for path, text in FILES.items()}
    texts |= {path: f"{line}\n" for path, (line, _) in LINES.items()}
    steps: list[dict[str, object]] = []
    steps += [{"file": path, "content": text, "mode": "0644"} for path, text in texts.items()]
    steps += [{"sysctl": key, "value": value} for key, value in SYSCTLS.items()]
    steps += [{"command": script, "creates": path} for path, script in COMMANDS.items()]
    return steps


def _mac(number: int) -> str:
    """The MAC address of a host by its number."""
    return f"52:54:00:00:{number // 256:02x}:{number % 256:02x}"


def _address(number: int) -> str:
    """The address of a host by its number."""
    return f"{_NET}.{number // 250}.{number % 250 + 2}"


def _processes(folder: str) -> list[int]:
    """The processes whose environment names the folder, as that of every measured command does."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if _of(path, folder.encode())]


def _of(process: Path, folder: bytes) -> bool:
    try:
        return folder in (process / "environ").read_bytes()
    except OSError:  # it has ended
        return False


def _memory(pid: int) -> int:
    """The KiB that a process takes, with its part of what it shares with others."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)
