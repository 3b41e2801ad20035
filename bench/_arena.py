"""Where the contenders meet: a private hypervisor that already has the image, and one probe for all contenders."""

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

HOST = "demo"  # the host file that swarm is measured with; the other contenders get its values as options


def run(argv: Sequence[str], env: dict[str, str] | None = None) -> str:
    """Run a program and return its standard output. Raise CommandFailed with its last lines if it fails."""
    done = subprocess.run(
        list(argv), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=env
    )
    if done.returncode:
        last = "\n  ".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise CommandFailed(f"{argv[0]} failed with exit code {done.returncode}:\n  {last}")
    return done.stdout


def need_packages(programs: dict[str, str], talk: Talk) -> None:
    """Install the packages of missing programs with apt-get. Given {program or path: package}."""
    missing = sorted(
        {
            package
            for program, package in programs.items()
            if not (shutil.which(program) or Path(program).exists())
        }
    )
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if os.environ.get("SWARM_NO_APT") == "1":
        raise Unfit(f"these packages are missing: {' '.join(missing)}", " ".join(command))
    talk.say(f"this benchmark needs programs that are missing: {' '.join(as_root(command))}")
    with talk.step(f"installing {' '.join(missing)}"):
        run(as_root(["env", "DEBIAN_FRONTEND=noninteractive", *command]))


class Arena:
    """A folder for all files, and a hypervisor in it. Of the user's own swarm, only the image cache is used."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        # The path of a socket must be short, and that of TMPDIR may be long.
        self.folder = Path(tempfile.mkdtemp(prefix="swarm-bench-", dir="/tmp"))
        for name in ("hosts", "state", "share", "home"):
            (self.folder / name).mkdir()
        own = {"SWARM_HOSTS": str(self.folder / "hosts"), "SWARM_STATE": str(self.folder / "state")}
        os.environ.update(own)
        # Without compiled modules every start of Python would be slow.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        # A separate home: virt-install keeps caches there, and virt-lightning searches it for keys.
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
        broker = (sys.executable, "-I", "-S", ROOT / "swarm/embedded/broker.py", self.hypervisor.broker)
        self.login = Probe(
            self.key, self.folder, broker, lambda address: self.hypervisor.connect(address, 22, 2.0)
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
        """The image that all VMs are made from. It is built on first use if the cache does not have it.

        It is linked into a cache of this arena, so that changes to the user's cache do not affect the measurement.
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
        """The connection to the hypervisor, which is started on first use."""
        if self._connection is None:
            self._connection = Libvirt("embedded", self.hypervisor)
        return self._connection

    @property
    def pool(self) -> str:
        """The folder of the disks, as seen inside the hypervisor's namespaces."""
        return str(self.host.vm.disk_path.parent)

    @property
    def base(self) -> str:
        """The base image's path in the pool."""
        return f"{self.pool}/{desired.base_volume(self.image.name, self.image.sha256, self.image.size)}"

    def prepare(self) -> float:
        """Start the hypervisor with a network and a pool that holds the image. Return the seconds of its upload."""
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
        """Return `argv` as a command that runs as root in the hypervisor's namespaces, where it is qemu:///system."""
        process = next(
            (path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if self._is_first(path)), None
        )
        if process is None:
            raise Unfit("the private hypervisor has ended", f"see {self.hypervisor.state}/host.log")
        return as_root(["nsenter", "--target", process, "--mount", "--net", "--pid", "--", *argv])

    def _is_first(self, path: Path) -> bool:
        try:
            argv = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # the process has ended
            return False
        return "serve" in argv and str(self.hypervisor.state) in argv

    def facts(self, domain: str) -> tuple[float, str]:
        """Return the CPU seconds that a running VM has used so far, and a description of its devices."""
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
        """Remove a domain and its disks, if it exists."""
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
        """Check that no other VM of this arena runs during the block. Raise Unfit."""
        if running := [raw.name() for raw in self.connection.raw.listAllDomains()]:
            raise Unfit(f"another VM is still running: {', '.join(running)}")
        yield

    def close(self) -> None:
        """Stop every VM and the hypervisor, and remove the folder."""
        if self._connection is not None:
            self._connection.close()
        self.hypervisor.stop()
        run(as_root(["rm", "-rf", "--one-file-system", str(self.folder)]))
