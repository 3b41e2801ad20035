"""Check this machine and its hypervisors. Each finding that is not good comes with a remedy."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from swarm.embedded import Embedded
from swarm.embedded.kvm import usable_kvm
from swarm.errors import SwarmError, Unfit
from swarm.hypervisor.connection import ANSWER, Libvirt
from swarm.hypervisor.network import Network
from swarm.inventory import EMBEDDED, Host, NetworkFacts
from swarm.paths import cache_dir, state_dir
from swarm.text import amount
from swarm.vm import fitness, places, software
from swarm.vm.finding import Finding
from swarm.vm.observe import acceleration, network_facts
from swarm.vm.places import SPACE
from swarm.vm.remote import ask
from swarm.vm.throwaway import with_vm

__all__ = ["Finding", "examine"]

Check = Callable[[], Iterator[Finding]]


def examine(hosts: list[Host]) -> list[Finding]:
    """Check this machine, as far as `hosts` need it, and each host's hypervisor. Changes nothing.

    What only the drills of machines need that swarm did not create is at worst a warning.
    """
    made = [host for host in hosts if not host.foreign]
    # Without archives there is nothing that a drill could restore.
    drills = [with_vm(host) for host in hosts if host.foreign and host.backup.destinations]
    checks: list[Check] = [partial(software.programs, made, drills), _space]
    here = _here(made)
    checks += [*here, *(_softened(check) for check in _here(drills) if check not in here)]
    for uri in sorted({host.hypervisor.uri for host in (*made, *drills)}):
        users = [host for host in made if host.hypervisor.uri == uri]
        others = [host for host in drills if host.hypervisor.uri == uri]
        check = _hypervisor(uri, users, others)
        checks.append(check if users else _softened(check))
    return [finding for check in checks for finding in check()]


def _here(hosts: list[Host]) -> list[Check]:
    """Return the checks of this machine as a hypervisor, if one of `hosts` needs it."""
    local = [host for host in hosts if not host.hypervisor.remote]
    if not local:
        return []
    checks: list[Check] = [_kvm, software.virtiofsd, software.firmware]
    return [*checks, _embedded] if any(host.hypervisor.uri == EMBEDDED for host in local) else checks


def _softened(check: Check) -> Check:
    def softened() -> Iterator[Finding]:
        for finding in check():
            failed = finding.level == "failure"
            what = f"for drills: {finding.what}"
            yield replace(finding, level="warning", what=what) if failed else finding

    return softened


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


def _space() -> Iterator[Finding]:
    for folder in (cache_dir(), state_dir()):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        if free < SPACE:
            yield Finding(
                "failure",
                f"{folder}: {amount(free)} free, and swarm needs {amount(SPACE)}",
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


def _hypervisor(uri: str, users: list[Host], drills: list[Host]) -> Check:
    hosts = [*users, *drills]

    def check() -> Iterator[Finding]:
        if uri == EMBEDDED and not Embedded().running:
            for host in hosts:
                yield from places.share(host, None)
            return
        try:
            asked = ask(uri, hosts)  # answers while libvirt connects
            with Libvirt(uri, limit=ANSWER) as connection:
                yield from _accelerations(uri, hosts, connection)
                machine = asked.found if asked else None
                yield from places.remote(uri, machine) if machine else ()
                for host in hosts:
                    # A drill gets an address that is free.
                    yield from _network(host, connection, fixed=host in users)
                    yield from places.share(host, connection, machine)
                    yield from places.disks(host, connection, machine)
        except SwarmError as error:
            yield Finding(
                "failure", f"{uri} ({', '.join(host.name for host in hosts)}): {error.message}", error.hint
            )

    return check


def _accelerations(uri: str, hosts: list[Host], connection: Libvirt) -> Iterator[Finding]:
    """Check what the hosts' settings of acceleration come to on their hypervisor, and what is missing for it."""
    kinds, problems = set(), []
    for wanted in sorted({host.hypervisor.acceleration for host in hosts}):
        asking = [host for host in hosts if host.hypervisor.acceleration == wanted]
        try:
            kinds.add(acceleration(asking[0], connection))
        except Unfit as error:
            names = ", ".join(host.name for host in asking)
            problems.append(Finding("failure", f"{uri} ({names}): {error.message}", error.hint))
    if kinds:
        words = " and ".join("KVM" if kind == "kvm" else "emulation" for kind in sorted(kinds))
        yield Finding("ok", f"{uri}: works, with {words}")
    yield from problems
    lacking = dict.fromkeys(each for kind in sorted(kinds) for each in fitness.missing(connection, kind))
    for what, remedy in lacking:
        yield Finding("failure", f"{uri}: {what} is missing", remedy)


def _network(host: Host, connection: Libvirt, *, fixed: bool) -> Iterator[Finding]:
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
    if fixed:
        yield from _address(host, network.name, facts)


def _address(host: Host, network: str, facts: NetworkFacts) -> Iterator[Finding]:
    """Check the address that the host file gives the VM."""
    if host.vm.ip not in facts.subnet:
        yield Finding(
            "failure",
            f"{host.name}: {host.vm.ip} is outside the network {network}, {facts.subnet}",
            "correct vm.ip in the host file",
        )
    elif (owner := facts.leases.get(host.vm.ip)) and owner != host.vm.mac:
        yield Finding(
            "failure",
            f"{host.name}: {host.vm.ip} is leased to {owner}",
            "give the host another vm.ip, or stop that machine and wait until its lease expires",
        )


def _addresses() -> list[tuple[str, ipaddress.IPv4Address]]:
    done = subprocess.run(["ip", "-json", "-4", "address"], capture_output=True, text=True, check=False)
    links = json.loads(done.stdout or "[]")
    return [
        (link["ifname"], ipaddress.IPv4Address(address["local"]))
        for link in links
        for address in link.get("addr_info", [])
        if not link["ifname"].startswith("virbr")
    ]
