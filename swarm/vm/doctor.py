"""Check this machine and its hypervisors. Each finding that is not good comes with a remedy."""

from __future__ import annotations

import ipaddress
import json
import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from swarm.embedded import Embedded
from swarm.embedded.kvm import usable_kvm
from swarm.errors import SwarmError
from swarm.hypervisor.connection import ANSWER, Libvirt
from swarm.hypervisor.network import Network
from swarm.inventory import EMBEDDED, Host
from swarm.paths import cache_dir, state_dir
from swarm.text import amount
from swarm.vm import fitness
from swarm.vm.observe import acceleration, network_facts
from swarm.vm.share import open_to_others, share_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Finding", "examine"]

# Free bytes that a build and a new VM need: a build uses 4 GiB, and OpenClaw's installation grows an overlay to 2 GiB.
_SPACE = 6 << 30

# A program for each purpose, with its package in Debian and Ubuntu. virtiofsd is packaged outside PATH.
_PROGRAMS = (
    ("qemu-system-x86_64", "qemu-system-x86", "run VMs"),
    ("qemu-img", "qemu-utils", "make disks"),
    ("libvirtd", "libvirt-daemon-system", "manage VMs"),
    ("swtpm", "swtpm", "give VMs a TPM"),
    ("swtpm_setup", "swtpm-tools", "give VMs a TPM"),
    ("dnsmasq", "dnsmasq-base", "give VMs an address"),
    ("iptables", "iptables", "let VMs reach the network"),
    ("pasta", "passt", "let VMs of the embedded hypervisor reach the network"),
    ("mmdebstrap", "mmdebstrap", "build images"),
    ("mkfs.vfat", "dosfstools", "build images"),
    ("mcopy", "mtools", "build images"),
    ("sfdisk", "fdisk", "build images"),
    ("ssh", "openssh-client", "log into VMs"),
)
_VIRTIOFSD = ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd")
# Where firmware packages describe themselves (QEMU's docs/interop/firmware.json).
_FIRMWARE = Path("/usr/share/qemu/firmware")
_QEMU_USERS = ("libvirt-qemu", "qemu")


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    level: Literal["ok", "warning", "failure"]
    what: str
    remedy: str | None = None

    def to_json(self) -> dict[str, str | None]:
        """Return the finding as plain data."""
        return asdict(self)


def examine(hosts: list[Host]) -> list[Finding]:
    """Check this machine, as far as `hosts` need it, and each host's hypervisor. Changes nothing."""
    checks: list[Callable[[], Iterator[Finding]]] = []
    hosts = [host for host in hosts if not host.foreign]  # their hypervisor is not our business
    if any(not host.hypervisor.remote for host in hosts):
        checks += [_kvm, _programs, _virtiofsd, _firmware]
    checks.append(_space)
    if any(host.hypervisor.uri == EMBEDDED for host in hosts):
        checks.append(_embedded)
    checks += [
        _hypervisor(uri, [host for host in hosts if host.hypervisor.uri == uri])
        for uri in sorted({host.hypervisor.uri for host in hosts})
    ]
    return [finding for check in checks for finding in check()]


def _kvm() -> Iterator[Finding]:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split()
    if usable_kvm():
        yield Finding("ok", "KVM works")
    elif not {"vmx", "svm"} & set(flags):
        yield Finding(
            "warning",
            "no KVM: the CPU has no virtualization (neither vmx nor svm). VMs are emulated and take minutes to boot",
            "enable virtualization in the firmware, or nested virtualization on the machine that hosts this one",
        )
    elif not Path("/dev/kvm").exists():
        yield Finding(
            "warning",
            "no KVM: /dev/kvm does not exist",
            "load the module: sudo modprobe kvm_intel (or kvm_amd)",
        )
    elif not os.access("/dev/kvm", os.R_OK | os.W_OK):
        yield Finding(
            "warning",
            "you have no access to /dev/kvm",
            "join the group kvm (sudo adduser $USER kvm, then log in again)",
        )
    else:
        yield Finding(
            "warning",
            "no KVM: /dev/kvm exists, but the kernel cannot create a VM",
            "stop another hypervisor that uses the CPU's virtualization; see dmesg",
        )


def _programs() -> Iterator[Finding]:
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = [
        (program, package, purpose)
        for program, package, purpose in _PROGRAMS
        if not shutil.which(program, path=search)
    ]
    for program, package, purpose in missing:
        yield Finding(
            "failure",
            f"{program} is missing, which swarm needs to {purpose}",
            f"sudo apt-get install {package}",
        )
    if not missing:
        yield Finding("ok", f"all {len(_PROGRAMS)} programs are installed")


def _virtiofsd() -> Iterator[Finding]:
    present = next((path for path in _VIRTIOFSD if Path(path).exists()), None)
    if present:
        yield Finding("ok", f"virtiofsd: {present}")
    else:
        remedy = "sudo apt-get install virtiofsd (Debian 12: qemu-system-common)"
        yield Finding("failure", "virtiofsd is missing, which shares folders with VMs", remedy)


def _firmware() -> Iterator[Finding]:
    for path in sorted(_FIRMWARE.glob("*.json")):
        features = json.loads(path.read_text(encoding="utf-8")).get("features", [])
        if {"secure-boot", "enrolled-keys", "requires-smm"} <= set(features):
            yield Finding("ok", f"UEFI firmware with Secure Boot and enrolled keys: {path}")
            return
    yield Finding(
        "failure",
        f"{_FIRMWARE} describes no UEFI firmware with Secure Boot and enrolled keys",
        "sudo apt-get install ovmf",
    )


def _space() -> Iterator[Finding]:
    for folder in (cache_dir(), state_dir()):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        if free < _SPACE:
            yield Finding(
                "failure",
                f"{folder}: {amount(free)} free, and swarm needs {amount(_SPACE)}",
                "free some space (./inv images --prune removes unused images), or set SWARM_CACHE or SWARM_STATE",
            )
        else:
            yield Finding("ok", f"{folder}: {amount(free)} free")


def _embedded() -> Iterator[Finding]:
    if os.geteuid() != 0 and not shutil.which("sudo"):
        yield Finding(
            "failure",
            "the embedded hypervisor needs root to start, and sudo is not installed",
            "run swarm as root, or install sudo",
        )
    if os.geteuid() == 0:
        argv = ["unshare", "--mount", "--net", "--pid", "--fork", "true"]
        tried = subprocess.run(argv, capture_output=True, text=True, check=False)
        if tried.returncode:
            yield Finding(
                "failure",
                f"this kernel cannot create namespaces: {tried.stderr.strip()}",
                "in a container, make it privileged",
            )
    embedded = Embedded()
    if reason := embedded.no_way_out:
        yield Finding(
            "warning",
            f"VMs of the embedded hypervisor have no network outside it: {reason}",
            "install the package passt, then stop and start the VMs",
        )
    state = "running" if embedded.running else "not running, starts when needed"
    yield Finding("ok", f"embedded hypervisor: {state} ({embedded.state})")


def _hypervisor(uri: str, hosts: list[Host]) -> Callable[[], Iterator[Finding]]:
    def check() -> Iterator[Finding]:
        if uri == EMBEDDED and not Embedded().running:
            for host in hosts:
                yield from _share(host, None)
            return
        try:
            with Libvirt(uri, limit=ANSWER) as connection:
                kind = acceleration(hosts[0], connection)
                yield Finding("ok", f"{uri}: works, with {'KVM' if kind == 'kvm' else 'emulation'}")
                for what, remedy in fitness.missing(connection, kind):
                    yield Finding("failure", f"{uri}: {what} is missing", remedy)
                for host in hosts:
                    yield from _network(host, connection)
                    yield from _share(host, connection)
                    yield from _searchable(host, connection)
        except SwarmError as error:
            yield Finding(
                "failure", f"{uri} ({', '.join(host.name for host in hosts)}): {error.message}", error.hint
            )

    return check


def _network(host: Host, connection: Libvirt) -> Iterator[Finding]:
    network = Network(connection, host.hypervisor.network)
    if not network.exists:
        if host.hypervisor.uri != EMBEDDED:
            yield Finding(
                "failure",
                f"{host.name}: the hypervisor has no network {network.name!r}",
                "virsh net-define /usr/share/libvirt/networks/default.xml",
            )
        return
    facts = network_facts(network.name, network.xml(), network.leases())
    if connection.embedded is None and connection.local and not network.active:
        for interface, address in _addresses():
            if address in facts.subnet:
                yield Finding(
                    "failure",
                    f"{host.name}: the network {network.name} cannot start: {interface} has its address {address}",
                    "give the libvirt network another subnet (virsh net-edit), or set hypervisor.uri: embedded",
                )
    if host.vm.ip not in facts.subnet:
        yield Finding(
            "failure",
            f"{host.name}: {host.vm.ip} is outside the network {network.name}, {facts.subnet}",
            "correct vm.ip in the host file",
        )
    elif (owner := facts.leases.get(host.vm.ip)) and owner != host.vm.mac:
        yield Finding(
            "failure",
            f"{host.name}: {host.vm.ip} is leased to {owner}",
            "give the host another vm.ip, or stop that machine and wait until its lease expires",
        )


def _share(host: Host, connection: Libvirt | None) -> Iterator[Finding]:
    share = host.vm.virtiofs
    if share is None:
        return
    if problem := share_problem(host, connection):
        yield Finding("failure", f"{host.name}: the share {problem}", f"mkdir -p {share.source}")
    elif open_to_others(host, connection):
        yield Finding(
            "warning",
            f"{host.name}: other users of this machine can enter {share.source}, where the guest can put programs "
            "that run as root for whoever starts them",
            "share a folder below one that only you can enter (chmod 700)",
        )


def _searchable(host: Host, connection: Libvirt) -> Iterator[Finding]:
    """Check that the user of the system's QEMU can search every folder above the disk."""
    if connection.embedded or not connection.local:
        return
    for folder in reversed(Path(host.vm.disk_path).parents):
        if folder.exists() and not _others_may_search(folder):
            yield Finding(
                "failure",
                f"{host.name}: QEMU's user cannot search {folder}, which is above {host.vm.disk_path}",
                f"sudo chmod o+x {folder}",
            )
            return


def _others_may_search(folder: Path) -> bool:
    entry = folder.stat()
    for name in _QEMU_USERS:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.st_uid == user.pw_uid:
            return bool(entry.st_mode & stat.S_IXUSR)
        if entry.st_gid in os.getgrouplist(name, user.pw_gid):
            return bool(entry.st_mode & stat.S_IXGRP)
    return bool(entry.st_mode & stat.S_IXOTH)


def _addresses() -> list[tuple[str, ipaddress.IPv4Address]]:
    done = subprocess.run(["ip", "-json", "-4", "address"], capture_output=True, text=True, check=False)
    links = json.loads(done.stdout or "[]")
    return [
        (link["ifname"], ipaddress.IPv4Address(address["local"]))
        for link in links
        for address in link.get("addr_info", [])
        if not link["ifname"].startswith("virbr")
    ]
