"""What a plan refuses, because it would take what is not swarm's, or lose data. Pure, but for the host file's lines."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from swarm.errors import InventoryError, Refused
from swarm.hypervisor.network import Reservation, clash
from swarm.inventory import EMBEDDED, NetworkFacts, check_disk, check_network, locate
from swarm.inventory.fields import NAME
from swarm.text import amount
from swarm.vm import egress

if TYPE_CHECKING:
    from swarm.inventory import Host
    from swarm.vm.observe import DomainFacts, Observed

__all__ = ["refuse"]


def refuse(host: Host, observed: Observed) -> None:
    """Raise Refused or InventoryError if a change would take what is not swarm's, or lose data."""
    _refuse_names(host, observed)
    _refuse_taken(host, observed)
    _refuse_addresses(host, observed)
    if observed.filter.xml and not egress.ours(host, observed.filter.xml):
        name = egress.filter_name(host)
        raise Refused(
            f"{host.name}: the hypervisor already has a network filter {name!r}, which swarm did not make",
            f"remove it, if nothing needs it: virsh nwfilter-undefine {name}",
        )
    if observed.pool is None and observed.disk_wanted and observed.pool_problem:
        problem, hint = observed.pool_problem
        raise Refused(f"{_at(host, 'disk_path')}: {problem}", hint)
    if observed.domain is None:
        _refuse_unknown_disk(host, observed)
    else:
        _refuse_disk(host, observed, observed.domain)
        _refuse_key(host, observed, observed.domain)


def _refuse_names(host: Host, observed: Observed) -> None:
    vm = host.vm
    if observed.namesake and NAME.fullmatch(observed.namesake_host):
        owner = observed.namesake_host
        raise Refused(
            f"{_at(host, 'domain')}: swarm made the domain {vm.domain!r} for the host {owner}, not for {host.name}",
            f"if you renamed its file, call it {owner}.yaml again, or destroy the VM under that name first; "
            "otherwise give this host another vm.domain",
        )
    if observed.namesake:
        raise Refused(
            f"{_at(host, 'domain')}: the hypervisor already has a domain {vm.domain!r}, which swarm did not make",
            "give this host another vm.domain, or remove that one by hand (virsh undefine --nvram --tpm)",
        )
    if observed.domain and observed.domain.name != vm.domain:
        rename = shlex.join(["virsh", "domrename", observed.domain.name, vm.domain])
        raise Refused(
            f"{_at(host, 'domain')}: this host's domain is called {observed.domain.name!r}, and swarm does not rename",
            f"stop it and rename it by hand: {rename}",
        )


def _refuse_taken(host: Host, observed: Observed) -> None:
    """Refuse to touch a disk or a MAC that another domain uses."""
    for path, user in observed.taken.items():
        raise Refused(
            f"{_at(host, 'disk_path')}: {path} is used by the domain {user!r}",
            "give this host a disk_path of its own",
        )
    if owner := observed.macs.get(host.vm.mac):
        raise Refused(
            f"{_at(host, 'mac')}: {host.vm.mac} is already the address of the domain {owner!r}",
            "give this host a MAC address of its own",
        )


def _refuse_addresses(host: Host, observed: Observed) -> None:
    """Refuse an address or a host name that another machine has in the libvirt network."""
    if observed.network is None:
        _refuse_new_network(host, observed)
        return
    own = _own_macs(host, observed)
    known = observed.network
    others = {mac: ip for mac, ip in known.reservations.items() if mac == host.vm.mac or mac not in own}
    leases = {
        ip: mac for ip, mac in known.leases.items() if mac.lower() == host.vm.mac or mac.lower() not in own
    }
    _check_network(host, observed, replace(known, reservations=others, leases=leases))
    wanted = Reservation(host.vm.mac, str(host.vm.ip), host.vm.hostname)
    if other := clash(wanted, observed.reservations, own):
        field, value = ("ip", wanted.ip) if other.ip == wanted.ip else ("hostname", wanted.name)
        raise InventoryError(
            f"{_at(host, field)}: {value} is already in a reservation of the network {known.name}: {other.to_xml()}",
            f"give this host another vm.{field}, or remove that reservation: virsh net-update",
        )


def _refuse_new_network(host: Host, observed: Observed) -> None:
    """Refuse a new VM in a network that cannot be made. swarm makes one only in the embedded hypervisor."""
    name = host.hypervisor.network
    if observed.domain is None and host.hypervisor.uri != EMBEDDED:
        raise InventoryError(
            f"{locate(host.name, 'hypervisor', 'network')} hypervisor.network: the hypervisor has no network {name!r}",
            "define it (virsh net-define /usr/share/libvirt/networks/default.xml), or name another one",
        )
    if observed.planned is None:
        return
    check_network(host, observed.planned)
    if observed.overlap:
        raise InventoryError(
            f"{_at(host, 'ip')}: {host.vm.ip} is an address of the network {observed.overlap!r}, "
            f"and the network {name!r} does not exist yet",
            f"write hypervisor.network: {observed.overlap}, or choose an address in a subnet that no network has",
        )


def _check_network(host: Host, observed: Observed, network: NetworkFacts) -> None:
    """Refuse an address that the network cannot give. If another VM holds it, say how the two can swap."""
    try:
        check_network(host, network)
    except InventoryError as error:
        holder = next(
            (observed.macs[mac] for mac in network.holders(host.vm.ip) if mac in observed.macs), None
        )
        free = network.free()
        if holder is None or free is None:
            raise
        raise InventoryError(
            f"{error.message}, by the domain {holder!r}",
            f"{error.hint}. To swap the addresses of two VMs: write vm.ip: {free} here and run ./inv provision "
            f"--host {host.name} --restart, then do so for the other one, then for {host.name} again",
        ) from None


def _own_macs(host: Host, observed: Observed) -> set[str]:
    """Return the MAC of the host file and those that the domain has now."""
    interfaces = observed.domain.interfaces if observed.domain else []
    return {host.vm.mac, *(mac for mac, _ in interfaces)}


def _refuse_unknown_disk(host: Host, observed: Observed) -> None:
    """Refuse a disk without a record. The domain is that record, and it is defined before its disk is made."""
    if observed.disk:
        held = amount(observed.disk.physical)
        raise Refused(
            f"{_at(host, 'disk_path')}: {host.vm.disk_path} already exists ({held}), "
            "and no domain of this host records it",
            "move it away, or delete it by hand if you are sure that it is not needed",
        )


def _refuse_disk(host: Host, observed: Observed, domain: DomainFacts) -> None:
    if domain.disk != str(host.vm.disk_path):
        raise Refused(
            f"{_at(host, 'disk_path')}: the domain's disk is {domain.disk}, and swarm does not move disks",
            "restore the old path, or destroy the VM and provision it again",
        )
    if observed.disk_missing and not observed.disk_wanted:
        raise Refused(
            f"{_at(host, 'disk_path')}: the domain's disk {domain.disk} does not exist",
            f"restore the file, or make the VM again: ./inv destroy --host {host.name}, then ./inv provision",
        )
    check_disk(host, observed.disk.capacity if observed.disk else None)


def _refuse_key(host: Host, observed: Observed, domain: DomainFacts) -> None:
    key = domain.note.host_key if domain.note else ""
    if observed.pinned and key and observed.pinned != key:
        raise Refused(
            f"the key pinned in {host.known_hosts} is not the one that this VM was made with",
            "find out who changed the file; without it, provision pins the original key again. "
            f"If the guest has a new key: ./inv pin --host {host.name}",
        )


def _at(host: Host, field: str) -> str:
    """Return where the host file states a field of `vm`, and the field's name."""
    return f"{locate(host.name, 'vm', field)} vm.{field}"
