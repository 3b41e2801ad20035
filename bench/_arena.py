"""Where the contenders meet: a private hypervisor of its own that has the image already, and one probe for all of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import libvirt

from bench._login import Probe
from swarm import images, inventory, ssh
from swarm.embedded import Embedded
from swarm.embedded.client import as_root
from swarm.errors import CommandFailed, Unfit
from swarm.hypervisor.connection import Libvirt
from swarm.hypervisor.network import Network
from swarm.hypervisor.storage import make_pool
from swarm.paths import ROOT
from swarm.vm import desired

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from swarm.console import Talk
    from swarm.images import Image
    from swarm.inventory import Host

__all__ = ["HOST", "Arena", "need_packages", "run"]

HOST = "demo"  # the host file that ours is measured with; the others get what it says as their options


def run(argv: Sequence[str], env: dict[str, str] | None = None) -> str:
    """Run a program to its end and return what it wrote to stdout. Raise CommandFailed with its last words if it fails."""
    done = subprocess.run(
        list(argv), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=env
    )
    if done.returncode:
        words = "\n  ".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise CommandFailed(f"{argv[0]} ended with exit code {done.returncode}:\n  {words}")
    return done.stdout


def need_packages(programs: dict[str, str], talk: Talk) -> None:
    """Install, with apt-get, the packages of those programs that are not there. Given {program or path: package}."""
    missing = sorted(
        {
            package
            for program, package in programs.items()
            if not (shutil.which(program) or Path(program).exists())
        }
    )
    if not missing:
        return
    words = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if os.environ.get("SWARM_NO_APT") == "1":
        raise Unfit(f"these packages are missing: {' '.join(missing)}", " ".join(words))
    talk.say(f"this measures programs that are not here: {' '.join(as_root(words))}")
    with talk.step(f"installing {' '.join(missing)}"):
        run(as_root(["env", "DEBIAN_FRONTEND=noninteractive", *words]))


class Arena:
    """A folder for everything, and the hypervisor in it. Nothing of the person's own swarm is read or written, but for the image cache."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        # Short, because sockets are in it; not in /var/tmp or TMPDIR, whose path may be long.
        self.folder = Path(tempfile.mkdtemp(prefix="swarm-bench-", dir="/tmp"))
        for name in ("hosts", "state", "share", "home"):
            (self.folder / name).mkdir()
        own = {"SWARM_HOSTS": str(self.folder / "hosts"), "SWARM_STATE": str(self.folder / "state")}
        os.environ.update(own)
        os.environ.pop(
            "PYTHONDONTWRITEBYTECODE", None
        )  # without compiled modules every start of Python would be slow
        # A home of their own: virt-install keeps caches, and virt-lightning looks for keys.
        self.environment = {
            **os.environ,
            "HOME": str(self.folder / "home"),
            "XDG_CACHE_HOME": str(self.folder / "home"),
            "LC_ALL": "C.UTF-8",
        }
        self._write_host()
        self.host: Host = inventory.load(HOST)
        self.key = ssh.own_key()
        self.hypervisor = Embedded()
        gate = (sys.executable, "-I", "-S", ROOT / "swarm/embedded/gate.py", self.hypervisor.door)
        self.login = Probe(
            self.key, self.folder, gate, lambda address: self.hypervisor.connect(address, 22, 2.0)
        )
        self._image: Image | None = None
        self._connection: Libvirt | None = None

    def _write_host(self) -> None:
        from ruamel.yaml import YAML

        yaml = YAML()
        tree = yaml.load((ROOT / "hosts" / f"{HOST}.yaml").read_text(encoding="utf-8"))
        tree["hypervisor"]["uri"] = "embedded"
        tree["vm"]["virtiofs"]["source"] = str(self.folder / "share")
        with (self.folder / "hosts" / f"{HOST}.yaml").open("w", encoding="utf-8") as file:
            yaml.dump(tree, file)

    @property
    def image(self) -> Image:
        """The image that all VMs are made from, built at first use if the cache does not have it.

        It gets a second name in a cache of this arena's own: what happens to the person's cache meanwhile must not be measured.
        """
        if self._image is None:
            image = images.ensure(self.host.vm.image, self.talk)
            own = self.folder / "cache" / "images"
            own.mkdir(parents=True)
            for path in image.path.parent.glob(f"{image.path.name}*"):
                try:
                    (own / path.name).hardlink_to(path)
                except OSError:  # another file system
                    shutil.copy2(path, own)
            os.environ["SWARM_CACHE"] = self.environment["SWARM_CACHE"] = str(own.parent)
            self._image = images.ensure(self.host.vm.image, self.talk)
        return self._image

    @property
    def connection(self) -> Libvirt:
        """The connection to the hypervisor, started at first use."""
        if self._connection is None:
            self._connection = Libvirt("embedded", self.hypervisor)
        return self._connection

    @property
    def pool(self) -> str:
        """The folder of the disks, as seen inside."""
        return str(self.host.vm.disk_path.parent)

    @property
    def base(self) -> str:
        """The base image's path in the pool."""
        return f"{self.pool}/{desired.base_volume(self.image.name, self.image.sha256, self.image.size)}"

    def prepare(self) -> float:
        """Start the hypervisor with a network and a pool that has the image; return the seconds that the image's upload took."""
        image = self.image
        with self.talk.step("starting a private hypervisor"):
            pool = make_pool(self.connection, self.host.vm.disk_path.parent)
            pool.activate()
            network = Network(self.connection, self.host.hypervisor.network)
            network.define(desired.network_xml(network.name))
            network.activate()
        start = time.monotonic()
        with self.talk.step("uploading the image") as meter, image.path.open("rb") as source:
            pool.upload(
                Path(self.base).name,
                source,
                image.size,
                "qcow2",
                lambda done: meter.advance(done, image.size),
            )
        return time.monotonic() - start

    def inside(self, argv: Sequence[str]) -> list[str]:
        """Return `argv` as a command that runs, as root, in the hypervisor's namespaces, where qemu:///system is the private one."""
        process = next(
            (path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if self._is_first(path)), None
        )
        if process is None:
            raise Unfit("the private hypervisor is gone", f"{self.hypervisor.state}/host.log may say why")
        return as_root(["nsenter", "--target", process, "--mount", "--net", "--pid", "--", *argv])

    def _is_first(self, path: Path) -> bool:
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has ended meanwhile
            return False
        return "serve" in words and str(self.hypervisor.state) in words

    def facts(self, domain: str) -> tuple[float, str]:
        """Return the CPU seconds that a running VM has used so far, and what it has, in words."""
        raw = self.connection.raw.lookupByName(domain)
        used = raw.info()[4] / 1e9  # nanoseconds
        tree = ET.fromstring(raw.XMLDesc(0))
        loader, machine = tree.find("./os/loader"), tree.find("./os/type")
        memory, size = int(tree.findtext("./memory") or 0) >> 10, raw.blockInfo("vda")[0] >> 30
        has = [
            f"{machine.get('machine') if machine is not None else '?'}",
            f"{memory} MiB",
            f"{tree.findtext('./vcpu')} vCPUs",
            f"{size} GiB",
        ]
        has += ["UEFI with Secure Boot" if loader is not None and loader.get("secure") == "yes" else "BIOS"]
        parts = {
            "TPM": "tpm",
            "virtiofs": "filesystem",
            "watchdog": "watchdog",
            "rng": "rng",
            "agent channel": "channel",
        }
        has += [
            f"{'' if tree.find(f'./devices/{tag}') is not None else 'no '}{name}"
            for name, tag in parts.items()
        ]
        return used, ", ".join(has)

    def remove(self, domain: str) -> None:
        """Remove a domain with its disks, if there is one."""
        try:
            raw = self.connection.raw.lookupByName(domain)
        except libvirt.libvirtError:
            return
        disks = [
            source.get("file", "")
            for source in ET.fromstring(raw.XMLDesc(0)).findall("./devices/disk/source")
        ]
        if raw.isActive():
            raw.destroy()
        if domain in self.connection.raw.listDefinedDomains():
            raw.undefineFlags(
                libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | getattr(libvirt, "VIR_DOMAIN_UNDEFINE_TPM", 0)
            )
        for disk in disks:
            run(self.inside(["rm", "-f", disk]))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Make sure that no other VM of ours runs beside the one that the block makes."""
        if running := [raw.name() for raw in self.connection.raw.listAllDomains()]:
            raise Unfit(f"there is still a VM: {', '.join(running)}")
        yield

    def close(self) -> None:
        """End every VM and the hypervisor, and remove the folder."""
        if self._connection is not None:
            self._connection.close()
        self.hypervisor.stop()
        run(as_root(["rm", "-rf", "--one-file-system", str(self.folder)]))
