"""From what there is to what would change. Pure: Host and Observed in, changes or a refusal out."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from swarm.errors import Refused
from swarm.inventory import check_disk, check_network, locate, size
from swarm.plan import Change
from swarm.text import amount
from swarm.vm import desired, shape
from swarm.vm.desired import Note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.inventory import Host
    from swarm.vm.observe import DomainFacts, Observed

__all__ = ["changes", "pending", "refuse"]

# A fresh qcow2 overlay holds its header and tables only: 200 KiB at 60 GiB, 420 KiB at 1 TiB (measured). One that a guest
# has ever booted from holds many MiB more.
_UNTOUCHED = 1 << 20

_LATER = "takes effect at the next start; --restart does it now"


def refuse(host: Host, observed: Observed) -> None:
    """Raise Refused or InventoryError if the wish clashes with something that is not swarm's, or would lose data."""
    vm = host.vm
    if observed.namesake:
        raise Refused(
            f"{_at(host, 'domain')}: the hypervisor has a domain {vm.domain!r} already, which swarm did not make",
            "give this host another vm.domain, or remove that one by hand (virsh undefine --nvram --tpm)",
        )
    if observed.domain and observed.domain.name != vm.domain:
        raise Refused(
            f"{_at(host, 'domain')}: this host's domain is called {observed.domain.name!r}, and swarm does not rename",
            f"stop it and rename it by hand: {shlex.join(['virsh', 'domrename', observed.domain.name, vm.domain])}",
        )
    if observed.network:
        check_network(host, observed.network)
    if observed.domain is None:
        if owner := observed.others.get(vm.mac):
            raise Refused(
                f"{_at(host, 'mac')}: {vm.mac} is the address of the domain {owner!r} already",
                "give this host one of its own",
            )
        if observed.disk and observed.disk.physical > _UNTOUCHED:
            held = amount(observed.disk.physical)
            raise Refused(
                f"{_at(host, 'disk_path')}: {vm.disk_path} is there already and holds {held}, but no domain of this host uses it",
                f"move it away if it is worth keeping, or delete it with: ./inv destroy --host {host.name}",
            )
        return
    if observed.domain.disk != str(vm.disk_path):
        raise Refused(
            f"{_at(host, 'disk_path')}: the domain's disk is {observed.domain.disk}, and swarm does not move disks",
            "put the old path back, or destroy the VM and provision it anew",
        )
    check_disk(host, observed.disk.capacity if observed.disk else None)
    key = observed.domain.note.host_key if observed.domain.note else ""
    if observed.pinned and key and observed.pinned != key:
        raise Refused(
            f"the key pinned in {host.known_hosts} is not the one that this VM was made with",
            "find out who changed the file; without it, provision pins the original key again. "
            f"If the guest has a new key: ./inv pin --host {host.name}",
        )


def changes(host: Host, observed: Observed, *, restart: bool = False) -> list[Change]:
    """Return what would be done, in order. With `restart`, a running VM is restarted if changes wait for it."""
    if observed.domain is None:
        return list(_anew(host, observed))
    return list(_upkeep(host, observed, observed.domain, restart=restart))


def pending(domain: DomainFacts) -> list[str]:
    """Return the parts in which the running VM differs from its stored definition because it was not restarted yet."""
    if domain.live_note is None or domain.note is None or not (domain.live_note.spec and domain.note.spec):
        return []
    stored, live = domain.note.spec, domain.live_note.spec
    return [
        _label(name)
        for name in dict.fromkeys((*stored, *live))
        if stored.get(name) != live.get(name) and "disk[vdb]" not in name
    ]


def _anew(host: Host, observed: Observed) -> Iterator[Change]:
    vm = host.vm
    if not observed.base:
        if not observed.image_cached:
            yield Change("create", "image", after=vm.image, key="image")
        yield Change("create", "base volume", after="uploaded into the hypervisor's pool", key="base")
    yield from _network(host, observed)
    yield Change("create", "host key", after="made here and pinned before the first boot", key="host_key")
    broken = "an untouched one of a broken run is replaced" if observed.disk else None
    yield Change("create", "disk", after=f"{vm.disk_path}, {size(vm.disk_size)}", note=broken, key="disk")
    yield Change("create", "seed", after="host key, users and network for the first boot", key="seed")
    kind = "KVM" if observed.kind == "kvm" else "emulation"
    yield Change(
        "create",
        "domain",
        after=f"{vm.domain}: {vm.memory_mib} MiB, {vm.vcpus} vCPUs, Secure Boot, TPM 2.0, {kind}",
        key="domain",
    )
    if vm.autostart:
        yield Change("update", "autostart", "off", "on", key="autostart")
    yield Change("run", "start", key="start")
    yield Change(
        "run",
        "first boot",
        after="wait until the guest is ready, then eject and delete the seed",
        key="first_boot",
    )


def _network(host: Host, observed: Observed) -> Iterator[Change]:
    name = host.hypervisor.network
    if not observed.network:
        yield Change("create", "network", after=name, key="network")
    elif not observed.network_active:
        yield Change("update", "network", "stopped", "running", key="network")
    if not observed.reserved:
        old = observed.network.reservations.get(host.vm.mac) if observed.network else None
        yield Change(
            "update" if old else "create",
            "reservation",
            str(old) if old else None,
            f"{host.vm.ip} for {host.vm.mac}",
            key="reservation",
        )


def _upkeep(host: Host, observed: Observed, domain: DomainFacts, *, restart: bool) -> Iterator[Change]:
    yield from _network(host, observed)
    note = domain.note or Note(host.name, domain.kind, observed.pinned or "", host.vm.image)
    if not observed.pinned and note.host_key:
        yield Change(
            "create", "host key", after="pinned again, as the domain's metadata has it", key="host_key"
        )
    if observed.disk and observed.disk.capacity < host.vm.disk_size:
        text = "the guest grows its file system at its next start"
        yield Change(
            "update", "disk", size(observed.disk.capacity), size(host.vm.disk_size), note=text, key="grow"
        )
    running = domain.state != "stopped"
    wanted = desired.domain_xml(host, observed.kind, domain.seed)
    defined = list(_definition(wanted, domain.xml, note, later=running and not restart))
    yield from defined
    if domain.autostart != host.vm.autostart:
        words = {True: "on", False: "off"}
        yield Change(
            "update", "autostart", words[domain.autostart], words[host.vm.autostart], key="autostart"
        )
    if running and restart and (pending(domain) or any(change.subject != "metadata" for change in defined)):
        yield Change("run", "restart", after=", ".join(pending(domain)) or None, key="restart")
    if not running or domain.state == "paused":
        yield Change("run", "start", key="start")
    if domain.seed:
        yield Change(
            "run",
            "first boot",
            after="wait until the guest is ready, then eject and delete the seed",
            key="first_boot",
        )
    elif observed.seed:
        yield Change("delete", "seed", before="left by a broken run", key="drop_seed")
    elif not running:
        yield Change("run", "boot", after="wait until the guest is ready", key="boot")


def _definition(wanted: str, actual: str, note: Note, *, later: bool) -> Iterator[Change]:
    """The parts of the stored definition that are not as wanted; with `later`, a running VM has them at its next start only."""
    if not note.have:  # a run was killed between defining and noting, somebody took the note out, or another version of swarm wrote it
        yield Change(
            "update",
            "metadata",
            after="defined anew, since what swarm noted of its definition is missing",
            key="domain",
        )
        return
    ours, theirs = shape.differences(wanted, actual, note.spec, note.have)
    for difference in ours:
        when = _LATER if later and difference.part != "title" else None
        yield Change(
            "update", _label(difference.part), difference.is_now, difference.wanted, note=when, key="domain"
        )
    for difference in theirs:
        before, after = difference.is_now or "removed", difference.wanted or "as swarm defined it"
        yield Change(
            "update",
            _label(difference.part),
            before,
            after,
            note="changed outside swarm; put back",
            key="domain",
        )


def _at(host: Host, field: str) -> str:
    """Where the host file states a field of `vm`, and the field's name."""
    return f"{locate(host.name, 'vm', field)} vm.{field}"


def _label(part: str) -> str:
    """A part's name as people say it: devices/filesystem[swarm] → share swarm."""
    words = {
        "vcpu": "vCPUs",
        "devices/filesystem": "share",
        "devices/interface": "network card",
        "devices/disk": "drive",
        "os": "firmware",
    }
    stem, bracket, key = part.partition("[")
    return f"{words.get(stem, stem.removeprefix('devices/'))}{' ' if bracket else ''}{key.rstrip(']')}"
