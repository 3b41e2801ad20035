"""Many hosts for tests on one machine: host files whose addresses all lead to one real sshd, in a network of its own.

The addresses are those of a private network namespace, so that swarm reaches them on the port of SSH as it reaches
guests. Their hypervisor is libvirt's test driver, whose domains exist only as descriptions.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from swarm import inventory, ssh
from swarm.paths import ROOT
from swarm.vm import desired
from tests import samples
from tests.sshd import Sshd

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.conftest import Dirs

__all__ = ["Fleet", "Ran", "fleet", "network"]

_NET = "192.168.122.0/24"
_DOMAIN = """<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory>524288</memory><vcpu>1</vcpu>
<os><type>hvm</type></os><devices><disk type='file'><source file='{disk}'/><target dev='vda'/></disk>
<interface type='network'><mac address='{mac}'/><source network='default'/></interface></devices></domain>"""


@dataclass(frozen=True)
class Ran:
    """A command that has ended: exit code, data and talk."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> list[dict[str, Any]]:
        """What --json wrote."""
        found: list[dict[str, Any]] = json.loads(self.out)
        return found


@dataclass(frozen=True)
class Fleet:
    """The server, the PID of the network's owner, and the names of the hosts."""

    server: Sshd
    owner: int
    names: Sequence[str]
    dirs: Dirs

    def command(self, *words: str) -> list[str]:
        """Return the command line of `inv` within the network."""
        program = [sys.executable, "-P", str(ROOT / "swarm" / "__main__.py"), *words]
        return ["nsenter", f"--net=/proc/{self.owner}/ns/net", *program]

    def inv(self, *words: str, timeout: float = 120) -> Ran:
        """Run `inv` within the network, without a terminal."""
        done = subprocess.run(
            self.command(*words),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            env=self.environment,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which `inv` finds the fleet and no LiteLLM."""
        return {**os.environ, "SWARM_LITELLM": str(self.dirs.state / "litellm")}


@contextlib.contextmanager
def fleet(
    folder: Path, dirs: Dirs, names: Sequence[str], *, running: bool = True, extra: str = ""
) -> Iterator[Fleet]:
    """Write a host file for each name, and run the server that they all lead to.

    With `running`, the VMs run. `extra` is added to each host file. What the hosts answer is that of this machine.
    """
    public = ssh.own_key().with_suffix(".pub").read_text(encoding="utf-8")
    node = folder / "node.xml"
    domains = []
    for number, name in enumerate(names, 1):
        path = samples.write(
            name, domain=name, hostname=name, mac=f"52:54:00:00:{number // 256:02x}:{number % 256:02x}",
            ip=f"192.168.122.{number + 1}", disk_path=f"/srv/{name}.qcow2",
        )  # fmt: skip
        text = path.read_text(encoding="utf-8").replace("uri: qemu:///system", f"uri: test://{node}")
        path.write_text(text + extra, encoding="utf-8")
        host = inventory.load(name)
        domains.append(
            _DOMAIN.format(name=name, uuid=desired.domain_uuid(host), disk=host.vm.disk_path, mac=host.vm.mac)
        )
    node.write_text(f"<node>{''.join(domains) if running else ''}</node>", encoding="utf-8")
    with network() as owner, Sshd(folder / "sshd", [public], within=owner, fixed="0.0.0.0") as server:  # noqa: S104
        _bare_login(folder)
        for name in names:
            ssh.pin(dirs.hosts / f"{name}.known_hosts", [name], server.public)
        yield Fleet(server, owner, names, dirs)


def _bare_login(folder: Path) -> None:
    """Give the server's root a home and a shell of its own: this machine's may run programs at each login."""
    (folder / "home").mkdir()
    accounts = folder / "sshd" / "passwd"
    lines = accounts.read_text(encoding="utf-8").splitlines()
    lines = [f"root:x:0:0:root:{folder}/home:/bin/sh" if each.startswith("root:") else each for each in lines]
    accounts.write_text("\n".join(lines) + "\n", encoding="utf-8")  # in place: it is bound over /etc/passwd


@contextlib.contextmanager
def network() -> Iterator[int]:
    """Give the PID of a process with a network of its own, in which every address of the hosts is loopback."""
    setup = f"ip link set lo up && ip route add local {_NET} dev lo && echo ready && exec sleep infinity"
    with subprocess.Popen(["unshare", "--net", "sh", "-c", setup], stdout=subprocess.PIPE) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == b"ready\n"
            yield owner.pid
        finally:
            owner.kill()
