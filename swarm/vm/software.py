"""Check the programs and the firmware that this machine needs for the hosts that it looks after."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from swarm import images
from swarm.images.build import PROGRAMS
from swarm.vm.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from swarm.inventory import Host

__all__ = ["firmware", "needed", "programs", "virtiofsd"]

# A program for each purpose, with its package in Debian and Ubuntu. virtiofsd is packaged outside PATH.
_ALWAYS = (("ssh", "openssh-client", "log into guests"),)
_IMAGES = (("qemu-img", "qemu-utils", "check images before their upload"),)
_VMS = (
    ("qemu-system-x86_64", "qemu-system-x86", "run VMs"),
    ("libvirtd", "libvirt-daemon-system", "manage VMs"),
    ("swtpm", "swtpm", "give VMs a TPM"),
    ("swtpm_setup", "swtpm-tools", "give VMs a TPM"),
    ("dnsmasq", "dnsmasq-base", "give VMs an address"),
    ("iptables", "iptables", "let VMs reach the network"),
    ("pasta", "passt", "let VMs of the embedded hypervisor reach the network"),
)
_VIRTIOFSD = ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd")
# Where packages, and then administrators, describe firmware (QEMU's docs/interop/firmware.json).
_FIRMWARE = (Path("/usr/share/qemu/firmware"), Path("/etc/qemu/firmware"))


def needed(hosts: Iterable[Host]) -> list[tuple[str, str, str]]:
    """Return the programs that this machine needs for VMs of `hosts`, each as (program, package, purpose).

    Images are built and checked here, wherever the VM runs.
    """
    hosts = list(hosts)
    found = [*_ALWAYS, *(_IMAGES if hosts else ())]
    built = {entry.name for entry in images.entries() if entry.kind == "built"}
    if any(host.vm.image in built for host in hosts):
        known = {program for program, _, _ in found}
        build = ((program, package, "build images") for program, package in PROGRAMS.items())
        found += [each for each in build if each[0] not in known]
    if any(not host.hypervisor.remote for host in hosts):
        found += _VMS
    return found


def programs(hosts: Iterable[Host], drills: Iterable[Host] = ()) -> Iterator[Finding]:
    """Check the programs that `hosts` need here. What only `drills` need is a warning."""
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    own = needed(hosts)
    wanted = {program: (package, purpose) for program, package, purpose in (*needed(drills), *own)}
    missing = [program for program in wanted if not shutil.which(program, path=search)]
    required = {program for program, _, _ in own}
    for program in missing:
        package, purpose = wanted[program]
        also = "" if program in required else " for drills"
        yield Finding(
            "warning" if also else "failure",
            f"{program} is missing, which swarm needs to {purpose}{also}",
            f"sudo apt-get install {package}",
        )
    if not missing:
        yield Finding("ok", f"all {len(wanted)} programs are installed")


def virtiofsd() -> Iterator[Finding]:
    """Check the program that shares folders."""
    present = next((path for path in _VIRTIOFSD if Path(path).exists()), None)
    if present:
        yield Finding("ok", f"virtiofsd: {present}")
    else:
        remedy = "sudo apt-get install virtiofsd (Debian 12: qemu-system-common)"
        yield Finding("failure", "virtiofsd is missing, which shares folders with VMs", remedy)


def firmware() -> Iterator[Finding]:
    """Check the firmware that VMs boot with."""
    suitable = None
    for path in _descriptions():
        try:
            features = _features(path)
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            remedy = f"reinstall its package (dpkg -S {path}), or remove the file"
            yield Finding(
                "failure", f"{path} is no description of firmware, so libvirt defines no VM", remedy
            )
        else:
            if suitable is None and {"secure-boot", "enrolled-keys", "requires-smm"} <= features:
                suitable = path
    if suitable:
        yield Finding("ok", f"UEFI firmware with Secure Boot and enrolled keys: {suitable}")
    else:
        what = f"{_FIRMWARE[0]} describes no UEFI firmware with Secure Boot and enrolled keys"
        yield Finding("failure", what, "sudo apt-get install ovmf")


def _descriptions() -> list[Path]:
    """Return the files that describe firmware. One of an administrator replaces the package's of the same name."""
    found = {path.name: path for folder in _FIRMWARE for path in folder.glob("*.json")}
    return [path for _, path in sorted(found.items())]


def _features(path: Path) -> set[str]:
    """Return the features in a file that describes firmware. An empty file only hides another one."""
    text = path.read_text(encoding="utf-8")
    return {str(feature) for feature in json.loads(text)["features"]} if text else set()
