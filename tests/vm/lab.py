"""A laboratory for tests with a real VM: folders of its own, `./inv`, and a booted guest that can be copied."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import libvirt
from ruamel.yaml import YAML

from swarm import inventory
from swarm.embedded import Embedded
from swarm.hypervisor.connection import Libvirt
from swarm.hypervisor.domain import Domain
from swarm.paths import ROOT
from swarm.vm import desired

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from swarm.inventory import Host

__all__ = ["Lab", "Ran"]

_LIMIT = 1200.0  # seconds for one command; a boot under emulation on a busy machine takes a few minutes
_UNPLUGGED = 60.0  # seconds for a guest to give a device back
_AGENT = 120.0  # seconds for the guest's agent to answer again after the guest slept


@dataclass(frozen=True)
class Ran:
    """A command's output and exit code."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:  # noqa: ANN401 - whatever --json wrote
        """What it wrote to stdout, as data."""
        return json.loads(self.out)


@dataclass
class Lab:
    """Folders, and the environment that points swarm at them. Laboratories may share `cache`, which only holds images.

    `before` is put before each command, for example to enter a network namespace.
    """

    base: Path
    cache: Path
    before: tuple[str, ...] = ()
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("hosts", "state"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        os.environ.update(self.environment)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point swarm at the laboratory's folders."""
        return {
            "SWARM_HOSTS": str(self.base / "hosts"),
            "SWARM_STATE": str(self.base / "state"),
            "SWARM_CACHE": str(self.cache),
        }

    @property
    def share(self) -> Path:
        """The folder that guests share, which swarm makes."""
        return self.base / "state/shares/zap"

    def zap(self) -> None:
        """Write the reference host's file with another hypervisor, image and share, one vCPU, and no backups."""
        yaml = YAML()
        tree = yaml.load((ROOT / "hosts" / "zap.yaml").read_text(encoding="utf-8"))
        tree["hypervisor"]["uri"] = "embedded"
        tree["vm"]["image"] = "built"
        tree["vm"]["vcpus"] = 1  # an emulated guest boots with a fifth less processor time than with 2
        tree["vm"]["virtiofs"]["source"] = self.share.name
        tree.pop("backup", None)  # its destination is a machine in somebody's network
        self.write("zap", tree)

    def copy(self, name: str, number: int) -> None:
        """Write a host file like zap's for a second VM; `number` makes its addresses unlike."""
        tree = self._read("zap")
        tree["vm"] |= {
            "domain": name,
            "hostname": name,
            "ip": f"192.168.122.{number}",
            "mac": f"52:54:00:01:01:{number % 100:02d}",
            "autostart": False,
        }
        tree["vm"]["disk_path"] = f"/var/lib/libvirt/images/{name}.qcow2"
        self.write(name, tree)

    def edit(self, name: str, **vm: object) -> None:
        """Change keys of a host file's vm section."""
        tree = self._read(name)
        tree["vm"].update(vm)
        self.write(name, tree)

    def _read(self, name: str) -> Any:  # noqa: ANN401 - a YAML tree
        return YAML().load((self.base / "hosts" / f"{name}.yaml").read_text(encoding="utf-8"))

    def write(self, name: str, tree: object) -> None:
        """Write a host file."""
        with (self.base / "hosts" / f"{name}.yaml").open("w", encoding="utf-8") as file:
            YAML().dump(tree, file)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start `./inv` with these words and return the process, which is killed when the laboratory closes."""
        argv = [*self.before, sys.executable, "-m", "swarm", *words]
        process = subprocess.Popen(
            argv,
            cwd=ROOT,
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.running.append(process)
        return process

    def inv(self, *words: str) -> Ran:
        """Run `./inv` with these words to its end."""
        process = self.start(*words)
        out, err = process.communicate(timeout=_LIMIT)
        self.running.remove(process)
        return Ran(process.returncode, out, err)

    def ssh(self, name: str, command: str, user: str = "root") -> str:
        """Return what a shell command says in a guest; a failure of the command fails the test."""
        ran = self.inv("ssh", "--host", name, "--user", user, "--", command)
        assert ran.code == 0, ran.err
        return ran.out

    def host(self, name: str = "zap") -> Host:
        """Return a host as swarm reads it."""
        return inventory.load(name)

    def hypervisor(self) -> Libvirt:
        """Return a connection to the laboratory's own hypervisor."""
        return Libvirt("embedded", Embedded(self.base / "state"))

    def domain(self, connection: Libvirt, name: str = "zap") -> Domain:
        """Return a host's domain."""
        domain = Domain.find_by_uuid(connection, desired.domain_uuid(self.host(name)))
        assert domain is not None
        return domain

    @property
    def lib(self) -> Path:
        """Where the hypervisor keeps its files, as libvirt has /var/lib/libvirt."""
        return self.base / "state" / "hypervisor" / "lib"

    def files(self) -> Iterator[str]:
        """The names, below `lib`, of all files that a VM of ours could have left."""
        for folder in ("images", "qemu/nvram", "qemu/save", "swtpm"):
            for path in (self.lib / folder).glob("*"):
                yield f"{folder}/{path.name}"

    def freeze(self) -> None:
        """Save the running zap into its state folder and stop the hypervisor, so that the folder can be copied.

        A share cannot be saved, so it is taken out of the running machine first; `thaw` puts it back.
        """
        self.ssh("zap", "umount /mnt/swarm && sync")
        with self.hypervisor() as connection:
            domain = self.domain(connection)
            domain.raw.detachDeviceFlags(self._share_xml(), 1)  # live only: VIR_DOMAIN_AFFECT_LIVE
            limit = time.monotonic() + _UNPLUGGED
            while "<filesystem" in domain.xml(live=True):
                assert time.monotonic() < limit, "the guest does not give the share back"
                time.sleep(0.2)
            domain.raw.managedSave(0)  # only tests save
        Embedded(self.base / "state").stop()

    def thaw(self, source: Lab) -> None:
        """Make this laboratory a copy of a frozen one, with zap running as it was."""
        for name in ("hosts", "state"):
            shutil.rmtree(self.base / name)
            subprocess.run(
                [
                    "cp",
                    "-a",
                    "--reflink=auto",
                    "--sparse=always",
                    str(source.base / name),
                    str(self.base / name),
                ],
                check=True,
            )
        os.environ.update(self.environment)
        # The definition names the folder of the laboratory that it comes from.
        self.edit("zap", virtiofs={"source": str(source.share), "tag": "swarm", "target": "/mnt/swarm"})
        with self.hypervisor() as connection:
            domain = self.domain(connection)
            if not domain.active:
                domain.start()
            domain.raw.attachDeviceFlags(self._share_xml(), 1)  # as above
            _set_clock(domain)
        self.ssh(
            "zap", "for n in $(seq 50); do mount /mnt/swarm && break; sleep 0.2; done; mountpoint /mnt/swarm"
        )

    def _share_xml(self) -> str:
        device = f"<driver type='virtiofs'/><source dir='{self.share}'/><target dir='swarm'/>"
        return f"<filesystem type='mount' accessmode='passthrough'>{device}</filesystem>"

    def close(self) -> None:
        """End every process that was started, and the hypervisor with all its VMs."""
        for process in self.running:
            process.kill()
            process.wait()
        Embedded(self.base / "state").stop()


def _set_clock(domain: Domain) -> None:
    """Set the clock of a guest that slept. Its agent answers a moment after the guest has woken up."""
    limit = time.monotonic() + _AGENT
    while True:
        try:
            domain.raw.setTime({"seconds": int(time.time()), "nseconds": 0}, 0)
        except libvirt.libvirtError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.5)
        else:
            return
