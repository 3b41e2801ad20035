"""From the host file and the observed state to a plan or a refusal. Pure: no I/O."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from swarm.errors import InventoryError, Refused, Unfit
from swarm.hypervisor.network import Reservation, clash
from swarm.inventory import check_disk, check_network, locate, size
from swarm.plan import Change, Plan
from swarm.text import amount
from swarm.vm import desired, shape
from swarm.vm.actions import Action
from swarm.vm.desired import Note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.inventory import Host
    from swarm.vm.observe import DomainFacts, Observed

__all__ = ["changes", "make_plan", "pending", "refuse"]

_LATER = "takes effect at the next start; --restart does it now"
_FIRST_BOOT = "wait until the guest is ready, then eject and delete the seed"


def make_plan(host: Host, observed: Observed, *, restart: bool = False) -> Plan:
    """Return the pending changes. Raise a SwarmError if the host file asks for what cannot or must not be done."""
    refuse(host, observed)
    plan = Plan(host.name, tuple(changes(host, observed, restart=restart)))
    needs_share = {change.key for change in plan} & {Action.DOMAIN, Action.START}
    if needs_share and observed.share_problem and host.vm.virtiofs:
        raise InventoryError(
            f"{locate(host.name, 'vm', 'virtiofs', 'source')} vm.virtiofs.source: {observed.share_problem}",
            f"make the folder (mkdir -p {host.vm.virtiofs.source}), or remove vm.virtiofs",
        )
    for what, remedy in observed.missing:
        raise Unfit(f"the hypervisor does not have {what}", remedy)
    return plan


def refuse(host: Host, observed: Observed) -> None:
    """Raise Refused or InventoryError if a change would take what is not swarm's, or lose data."""
    _refuse_names(host, observed)
    _refuse_taken(host, observed)
    _refuse_addresses(host, observed)
    if observed.domain is None:
        _refuse_unknown_disk(host, observed)
    else:
        _refuse_disk(host, observed, observed.domain)
        _refuse_key(host, observed, observed.domain)


def _refuse_names(host: Host, observed: Observed) -> None:
    vm = host.vm
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
        return
    own = _own_macs(host, observed)
    known = observed.network
    others = {mac: ip for mac, ip in known.reservations.items() if mac == host.vm.mac or mac not in own}
    leases = {
        ip: mac for ip, mac in known.leases.items() if mac.lower() == host.vm.mac or mac.lower() not in own
    }
    check_network(host, replace(known, reservations=others, leases=leases))
    wanted = Reservation(host.vm.mac, str(host.vm.ip), host.vm.hostname)
    if other := clash(wanted, observed.reservations, own):
        field, value = ("ip", wanted.ip) if other.ip == wanted.ip else ("hostname", wanted.name)
        raise InventoryError(
            f"{_at(host, field)}: {value} is already in a reservation of the network {known.name}: {other.to_xml()}",
            f"give this host another vm.{field}, or remove that reservation: virsh net-update",
        )


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


def changes(host: Host, observed: Observed, *, restart: bool = False) -> list[Change]:
    """Return the pending changes in execution order. With `restart`, a VM is restarted if changes wait for that."""
    if observed.domain is None:
        return list(_create(host, observed))
    return list(_update(host, observed, observed.domain, restart=restart))


def pending(domain: DomainFacts) -> list[str]:
    """Return the parts in which the running VM differs from its stored definition until it is restarted."""
    if domain.live_note is None or domain.note is None or not (domain.live_note.spec and domain.note.spec):
        return []
    stored, live = domain.note.spec, domain.live_note.spec
    return [
        _label(name)
        for name in dict.fromkeys((*stored, *live))
        if stored.get(name) != live.get(name) and "disk[vdb]" not in name
    ]


def _create(host: Host, observed: Observed) -> Iterator[Change]:
    vm = host.vm
    yield from _base(host, observed)
    yield from _network(host, observed)
    yield Change(
        "create", "host key", after="made here and pinned before the first boot", key=Action.HOST_KEY
    )
    yield Change("create", "seed", after="host key, users and network for the first boot", key=Action.SEED)
    kind = "KVM" if observed.kind == "kvm" else "emulation"
    summary = f"{vm.domain}: {vm.memory_mib} MiB, {vm.vcpus} vCPUs, Secure Boot, TPM 2.0, {kind}"
    yield Change("create", "domain", after=summary, key=Action.DOMAIN)
    yield _disk(host)
    if vm.autostart:
        yield Change("update", "autostart", "off", "on", key=Action.AUTOSTART)
    yield Change("run", "start", key=Action.START)
    yield Change("run", "first boot", after=_FIRST_BOOT, key=Action.FIRST_BOOT)


def _base(host: Host, observed: Observed) -> Iterator[Change]:
    if not observed.base:
        if not observed.image_cached:
            yield Change("create", "image", after=host.vm.image, key=Action.IMAGE)
        yield Change("create", "base volume", after="uploaded into the hypervisor's pool", key=Action.BASE)


def _disk(host: Host) -> Change:
    return Change("create", "disk", after=f"{host.vm.disk_path}, {size(host.vm.disk_size)}", key=Action.DISK)


def _network(host: Host, observed: Observed) -> Iterator[Change]:
    name = host.hypervisor.network
    if not observed.network:
        yield Change("create", "network", after=name, key=Action.NETWORK)
    elif not observed.network_active:
        yield Change("update", "network", "stopped", "running", key=Action.NETWORK)
    for stale in observed.stale:
        before = f"{stale.ip} for {stale.mac} in the network {stale.network}"
        yield Change("delete", "reservation", before, note="no longer in the host file", key=Action.RELEASE)
    if not observed.reserved:
        old = observed.network.reservations.get(host.vm.mac) if observed.network else None
        yield Change(
            "update" if old else "create",
            "reservation",
            str(old) if old else None,
            f"{host.vm.ip} for {host.vm.mac}",
            key=Action.RESERVATION,
        )


def _update(host: Host, observed: Observed, domain: DomainFacts, *, restart: bool) -> Iterator[Change]:
    yield from _network(host, observed)
    note = domain.note or Note(host.name, domain.kind, observed.pinned or "", host.vm.image)
    if not observed.pinned and note.host_key:
        text = "pinned again, as the domain's metadata records it"
        yield Change("create", "host key", after=text, key=Action.HOST_KEY)
    yield from _disk_changes(host, observed)
    running = domain.state != "stopped"
    wanted = desired.domain_xml(host, observed.kind, domain.seed)
    defined = list(_definition(wanted, domain.xml, note, later=running and not restart))
    yield from defined
    if domain.autostart != host.vm.autostart:
        words = {True: "on", False: "off"}
        before, after = words[domain.autostart], words[host.vm.autostart]
        yield Change("update", "autostart", before, after, key=Action.AUTOSTART)
    if running and restart and (pending(domain) or any(change.subject != "metadata" for change in defined)):
        yield Change("run", "restart", after=", ".join(pending(domain)) or None, key=Action.RESTART)
    if not running or domain.state == "paused":
        yield Change("run", "start", key=Action.START)
    yield from _boot(observed, domain, running=running)


def _disk_changes(host: Host, observed: Observed) -> Iterator[Change]:
    if observed.disk_wanted:
        yield from _base(host, observed)
        yield _disk(host)
    elif observed.disk and observed.disk.capacity < host.vm.disk_size:
        text = "the guest grows its file system at its next start"
        before, after = size(observed.disk.capacity), size(host.vm.disk_size)
        yield Change("update", "disk", before, after, note=text, key=Action.GROW)


def _boot(observed: Observed, domain: DomainFacts, *, running: bool) -> Iterator[Change]:
    """What is left of the first boot, or the wait for a later one."""
    if domain.seed:
        yield Change("run", "first boot", after=_FIRST_BOOT, key=Action.FIRST_BOOT)
    elif observed.seed:
        yield Change("delete", "seed", before="left by an interrupted run", key=Action.DROP_SEED)
    elif not running:
        yield Change("run", "boot", after="wait until the guest is ready", key=Action.BOOT)


def _definition(wanted: str, actual: str, note: Note, *, later: bool) -> Iterator[Change]:
    """Yield the parts of the stored definition that differ. With `later`, they take effect at the next start."""
    if (
        not note.have
    ):  # a run was killed before it wrote the hashes, the note was removed, or its form is another version's
        text = "defined again, since the record of swarm's definition is missing"
        yield Change("update", "metadata", after=text, key=Action.DOMAIN)
        return
    ours, theirs = shape.differences(wanted, actual, note.spec, note.have)
    for part in ours:
        when = _LATER if later and part.part != "title" else None
        yield Change("update", _label(part.part), part.is_now, part.wanted, note=when, key=Action.DOMAIN)
    for part in theirs:
        before, after = part.is_now or "removed", part.wanted or "as swarm defined it"
        text = "changed outside swarm; put back"
        yield Change("update", _label(part.part), before, after, note=text, key=Action.DOMAIN)


def _at(host: Host, field: str) -> str:
    """Return where the host file states a field of `vm`, and the field's name."""
    return f"{locate(host.name, 'vm', field)} vm.{field}"


def _label(part: str) -> str:
    """Return a readable name of a part: devices/filesystem[swarm] → share swarm."""
    labels = {
        "vcpu": "vCPUs",
        "devices/filesystem": "share",
        "devices/interface": "network interface",
        "devices/disk": "drive",
        "os": "firmware",
    }
    stem, bracket, key = part.partition("[")
    return f"{labels.get(stem, stem.removeprefix('devices/'))}{' ' if bracket else ''}{key.rstrip(']')}"
