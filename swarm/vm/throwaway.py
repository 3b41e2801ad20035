"""A throwaway VM made after a host's: derived from its file, without a file of its own, and removed completely."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from swarm.embedded import Embedded
from swarm.errors import Refused, Unfit
from swarm.hypervisor.connection import Libvirt
from swarm.hypervisor.network import Network
from swarm.hypervisor.usage import usage
from swarm.inventory import EMBEDDED, Host, Hypervisor, Vm, load_others, size
from swarm.paths import state_dir
from swarm.vm import desired
from swarm.vm.busy import busy
from swarm.vm.destroy import remove, rest, survey
from swarm.vm.isolation import network_name
from swarm.vm.observe import domain_facts, network_facts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from swarm.console import Talk
    from swarm.inventory import NetworkFacts

__all__ = [
    "Throwaway",
    "derive",
    "derived_name",
    "discard",
    "dispose",
    "folder",
    "mac_for",
    "prepare",
    "with_vm",
]

_SUFFIX = "-drill"
_LONGEST = 32  # characters of a host's name
_DIGITS = 6


class Throwaway(Host):
    """A VM without a host file. Its pinned host key is in a private directory, not beside the host files."""

    @property
    def known_hosts(self) -> Path:
        """The path of the file that pins the guest's SSH host key."""
        return folder(self.name) / "known_hosts"


def folder(name: str) -> Path:
    """Return the private directory of a throwaway VM."""
    return state_dir() / "drill" / name


def derived_name(name: str) -> str:
    """Return the name of the throwaway VM of the host `name`. A long name is cut, and a hash keeps it unique."""
    if len(name) + len(_SUFFIX) <= _LONGEST:
        return name + _SUFFIX
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]
    return f"{name[: _LONGEST - len(_SUFFIX) - _DIGITS - 1]}-{digest}{_SUFFIX}"


def derive(
    host: Host, others: Iterable[Host], network: NetworkFacts, macs: Collection[str] = ()
) -> Throwaway:
    """Return the throwaway VM of `host`. Pure.

    Nothing of it clashes with `others`, with what the network has given out, or with `macs`, which domains use. Raise
    Refused if another host has its name, Unfit if the network has no free address.

    The host name is not the original's, because a libvirt network refuses two reservations with one name.
    """
    host = with_vm(host)
    known = [host, *(other for other in others if not other.foreign)]
    name = derived_name(host.name)
    if any(other.name == name for other in others):
        raise Refused(
            f"{host.name}: the drill's VM would be called {name}, and a host file has this name",
            f"rename hosts/{name}.yaml",
        )
    planned = {f"host {other.name}": other.vm.ip for other in known}  # not reserved yet, perhaps
    free = replace(network, reservations={**planned, **network.reservations}).free()
    taken = {*macs, *(other.vm.mac for other in known), *network.reservations, *network.leases.values()}
    if free is None:
        raise Unfit(
            f"{host.name}: the network {network.name} has no free address for the drill's VM",
            "remove reservations that are no longer needed: virsh net-update",
        )
    values = {
        "domain": name,
        "hostname": name.replace("_", "-"),
        "mac": mac_for(name, {each.lower() for each in taken}),
        "ip": free,
        "disk_path": host.vm.disk_path.with_name(f"swarm-{name}.qcow2"),
        "virtiofs": None,
        "autostart": False,
    }
    kept = {key: value for key, value in host if key not in {"name", "own_vm", "machine"}}
    return Throwaway.model_validate({**kept, "name": name, "vm": host.vm.model_copy(update=values)})


def with_vm(host: Host) -> Host:
    """Return a host that has a VM. For a machine that swarm did not make, it follows from the section drill."""
    if not host.foreign:
        return host
    vm = Vm.model_validate(
        {
            "domain": host.name,
            "hostname": host.hostname,
            "image": host.drill.image,
            "memory_mib": host.drill.memory_mib,
            "vcpus": 2,
            "disk_path": f"/var/lib/libvirt/images/{host.name}.qcow2",
            "disk_size": size(host.drill.disk_size),
            "mac": "52:54:00:00:00:01",  # as the address: derive() chooses both
            "ip": "192.168.122.2",
        }
    )
    place = Hypervisor(uri=host.drill.hypervisor)
    return host.model_copy(update={"hypervisor": place, "machine": None, "own_vm": vm})


def mac_for(name: str, taken: Collection[str]) -> str:
    """Return a MAC address in libvirt's range that follows from the name and is not taken."""
    digest = hashlib.sha256(name.encode()).digest()
    while (mac := f"52:54:00:{digest[0]:02x}:{digest[1]:02x}:{digest[2]:02x}") in taken:
        digest = hashlib.sha256(digest).digest()
    return mac


def prepare(host: Host, talk: Talk) -> Throwaway:
    """Remove what an earlier run has left, and return a throwaway VM that clashes with nothing. Make nothing yet.

    Raise as derive() and dispose() do.
    """
    host, others = with_vm(host), load_others([host.name])
    with Libvirt(host.hypervisor.uri) as connection:
        if dispose(derive(host, others, _facts(host, connection)), talk):
            talk.say("removed what an earlier drill had left")
        used = usage(connection).macs
        return derive(host, others, _facts(host, connection), used)


def discard(host: Host, talk: Talk) -> bool:
    """Remove the throwaway VM that an earlier run has left. Return True if there was one. Raise as dispose()."""
    host, others = with_vm(host), load_others([host.name])
    if host.hypervisor.uri == EMBEDDED and not Embedded().exists:
        return False
    with Libvirt(host.hypervisor.uri) as connection:
        return dispose(derive(host, others, _facts(host, connection)), talk)


def _facts(host: Host, connection: Libvirt) -> NetworkFacts:
    network = Network(connection, host.hypervisor.network)
    if not network.exists and host.hypervisor.uri == EMBEDDED:
        return network_facts(network.name, desired.network_xml(network.name, host.vm.ip), [])
    return network_facts(network.name, network.xml(), network.leases())


def dispose(host: Throwaway, talk: Talk) -> bool:
    """Remove the VM, its disk, its networks' entries and its private directory. Return True if there was anything.

    Raise Refused, and remove nothing, if a VM that no drill made has its identity.
    """
    left = folder(host.name).exists()
    if host.hypervisor.uri != EMBEDDED or Embedded().exists:
        with busy(host, talk), Libvirt(host.hypervisor.uri) as connection:
            facts = domain_facts(host, connection)
            if facts and facts.own_disk != str(host.vm.disk_path):
                raise Refused(
                    f"the hypervisor has a VM called {facts.name!r} that no drill made; its disk is {facts.own_disk}",
                    "rename that VM's host, or remove it by hand: virsh undefine --nvram --tpm",
                )
            remains = survey(host, connection)
            left = left or bool(remains.domain or remains.volumes or remains.reservations)
            remove(host, connection, remains)
            left = Network(connection, network_name(host)).remove() or left
            rest(connection, talk)
    shutil.rmtree(folder(host.name), ignore_errors=True)
    return left
