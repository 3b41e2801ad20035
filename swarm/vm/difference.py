"""From the host file and the observed state to a plan. Pure: no I/O."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from swarm.errors import InventoryError, Unfit
from swarm.inventory import locate, size
from swarm.plan import Change, Plan
from swarm.vm import desired, egress, shape
from swarm.vm.actions import Action
from swarm.vm.desired import Note
from swarm.vm.refusals import refuse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.inventory import Host
    from swarm.vm.observe import DomainFacts, Observed

__all__ = ["changes", "make_plan", "pending", "unreached"]

_LATER = "takes effect at the next start; --restart does it now"
_CUT_OFF = "at once: the running guest has no network until it is restarted; --restart does it now"
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


def unreached(plan: Plan) -> bool:
    """Return whether the plan gives a running VM an address or a MAC that its guest has after a restart only."""
    return any(
        change.note == _CUT_OFF or (change.subject == "reservation" and change.note == _LATER)
        for change in plan
    )


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
    yield from _filter(host, observed)


def _filter(host: Host, observed: Observed) -> Iterator[Change]:
    """Yield the change of the network filter, which has to be there before a domain that names it can start."""
    found = observed.filter
    if egress.unfiltered(host) or not found.supported:
        return
    # Without the libvirt network, there is no VM yet, and no filter that could be right.
    if (net := observed.network) and egress.same(egress.filter_xml(host, net, found.own), found.xml):
        return
    kind: Literal["create", "update"] = "update" if found.xml else "create"
    before = "other rules" if found.xml else None
    # Until now, the agent of an existing VM reached everything, and it may rely on something.
    new = observed.domain is not None and not found.xml
    note = "vm.network.allow lists what else the agent needs" if new else None
    yield Change(kind, "network filter", before, egress.summary(host), note=note, key=Action.FILTER)


def _update(host: Host, observed: Observed, domain: DomainFacts, *, restart: bool) -> Iterator[Change]:
    running = domain.state != "stopped"
    later = running and not restart
    network = list(_network(host, observed))
    moved = [each for each in network if each.subject == "reservation" and each.action == "update"]
    if later:
        network = [replace(each, note=_LATER) if each in moved else each for each in network]
    if later and observed.filter.xml and (moved or host.vm.mac not in dict(domain.interfaces)):
        # libvirt applies the new rules to the running VM, which keeps its address and its MAC until its next start.
        network = [replace(each, note=_CUT_OFF) if each.key == Action.FILTER else each for each in network]
    yield from network
    note = domain.note or Note(host.name, domain.kind, observed.pinned or "", host.vm.image)
    if not observed.pinned and note.host_key:
        text = "pinned again, as the domain's metadata records it"
        yield Change("create", "host key", after=text, key=Action.HOST_KEY)
    yield from _disk_changes(host, observed)
    wanted = desired.domain_xml(host, observed.kind, domain.seed)
    defined = list(_definition(wanted, domain.xml, note, later=later))
    yield from defined
    if domain.autostart != host.vm.autostart:
        words = {True: "on", False: "off"}
        before, after = words[domain.autostart], words[host.vm.autostart]
        yield Change("update", "autostart", before, after, key=Action.AUTOSTART)
    changed = moved or any(change.subject != "metadata" for change in defined)
    if not running or domain.state == "paused":  # a paused guest could not power off either
        yield Change("run", "start", key=Action.START)
    if running and restart and (changed or pending(domain)):
        yield Change("run", "restart", after=", ".join(pending(domain)) or None, key=Action.RESTART)
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
