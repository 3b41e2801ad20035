"""Remove a VM and what was made for it: what the domain records, and nothing that another domain uses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from swarm import ssh
from swarm.embedded import Embedded
from swarm.errors import Refused
from swarm.hypervisor.connection import Libvirt
from swarm.hypervisor.domain import Domain
from swarm.hypervisor.filters import Filter, supported
from swarm.hypervisor.network import Network
from swarm.hypervisor.storage import Volume, find_pool
from swarm.hypervisor.usage import Usage, usage
from swarm.inventory import EMBEDDED, Host
from swarm.plan import Change, Plan
from swarm.reconcile import Applied, reconcile
from swarm.text import amount
from swarm.vm import desired, egress
from swarm.vm.busy import busy
from swarm.vm.observe import StaleReservation, domain_facts

if TYPE_CHECKING:
    from swarm.console import Talk
    from swarm.vm.observe import DomainFacts

__all__ = ["Kept", "Remains", "destroy", "removal", "remove", "rest", "survey"]


@dataclass(frozen=True)
class Kept:
    """A file that would have to go and is kept, and why."""

    path: str
    why: str


@dataclass(frozen=True)
class Remains:
    """What exists of a host: its domain's name, volumes with labels, reservations, a filter's name and a pinned key."""

    domain: str | None = None
    volumes: tuple[tuple[str, Volume], ...] = ()
    reservations: tuple[StaleReservation, ...] = ()
    kept: tuple[Kept, ...] = ()
    pinned: bool = False
    filter: str | None = None


def removal(host: Host, remains: Remains) -> Plan:
    """Return what is to be removed. The domain goes last: until then it records what belongs to it."""
    changes = [
        Change("delete", label, f"{volume.path}, {amount(volume.physical)}")
        for label, volume in remains.volumes
    ]
    changes += [
        Change("delete", "reservation", f"{entry.ip} for {entry.mac}") for entry in remains.reservations
    ]
    if remains.filter:
        changes.append(Change("delete", "network filter", remains.filter))
    if remains.pinned:
        changes.append(Change("delete", "pinned host key", str(host.known_hosts)))
    if remains.domain:
        text = f"{remains.domain}, with NVRAM and TPM state"
        changes.append(Change("delete", "domain", text))
    return Plan(host.name, tuple(changes))


def destroy(host: Host, talk: Talk, *, plan_only: bool = False, yes: bool = False) -> Plan:
    """Remove the VM and all that was made for it, except base images. Return what was (or would be) removed.

    Ask first, unless `yes`. Raise Refused if the answer is no, VerificationFailed if something could not be removed.
    """
    if host.hypervisor.uri == EMBEDDED and not Embedded().exists:
        return _destroy_pin(host, talk, plan_only=plan_only)

    def confirm(_: Plan) -> None:
        if not yes and not talk.ask(f"Delete all this? The disk of {host.name} cannot be restored."):
            raise Refused(f"{host.name} was not destroyed", "answer y, or give --yes")

    with busy(host, talk), Libvirt(host.hypervisor.uri) as connection:

        def apply(plan: Plan, remains: Remains) -> Applied[Remains]:
            remove(host, connection, remains)
            return Applied(plan)

        def look() -> Remains:
            remains = survey(host, connection)
            for kept in remains.kept:
                talk.warn(f"{kept.path} is kept: {kept.why}")
            return remains

        plan = reconcile(
            look, lambda seen: removal(host, seen), apply, talk, plan_only=plan_only, confirm=confirm
        )
        if not plan_only:
            if plan:
                talk.done(f"{host.name} is gone")
            rest(connection, talk)
        return plan


def rest(connection: Libvirt, talk: Talk) -> None:
    """Close the connection, and stop an embedded hypervisor in which no VM runs."""
    if connection.rest():
        talk.say("the embedded hypervisor is stopped too, since no VM runs in it")


def survey(host: Host, connection: Libvirt) -> Remains:
    """Return what there is to remove of `host`. Raise HypervisorError if libvirt fails."""
    domain = domain_facts(host, connection)
    others = usage(connection, besides=desired.domain_uuid(host))
    volumes, kept = _volumes(host, connection, domain, others)
    return Remains(
        domain=domain.name if domain else None,
        volumes=volumes,
        reservations=tuple(_reservations(host, connection, domain, others)),
        kept=kept,
        pinned=host.known_hosts.exists(),
        filter=_filter(host, connection),
    )


def _volumes(
    host: Host, connection: Libvirt, domain: DomainFacts | None, others: Usage
) -> tuple[tuple[tuple[str, Volume], ...], tuple[Kept, ...]]:
    """Return what exists of the host's disk, seed and console log, and what of it has to stay.

    The disk is the one that the domain records. The seed and the console log have names that only swarm gives.
    """
    own = domain.own_disk if domain else None
    folder = PurePosixPath(own).parent if own else host.vm.disk_path.parent
    pool = find_pool(connection, folder)
    if pool is None or not pool.activate():
        why = (
            "no storage pool has its folder"
            if pool is None
            else "its folder does not exist, or is not mounted"
        )
        return (), (Kept(own, f"{why}; delete it by hand if it is still there"),) if own else ()
    paths = {
        str(folder / desired.seed_volume(host)): "seed",
        **{str(folder / name): "console log" for name in desired.console_volumes(host)},
        own or str(host.vm.disk_path): "disk",
    }
    users = others.of(paths)
    found, kept = [], []
    for volume in pool.volumes():
        if label := paths.get(volume.path):
            if user := users.get(volume.path):
                kept.append(Kept(volume.path, f"the domain {user!r} uses it"))
            elif label == "disk" and not own:
                kept.append(Kept(volume.path, f"no domain of {host.name} records it, so it may be another's"))
            else:
                found.append((label, volume))
    return tuple(found), tuple(kept)


def _reservations(
    host: Host, connection: Libvirt, domain: DomainFacts | None, others: Usage
) -> list[StaleReservation]:
    """Return the reservations of the domain's MACs and of the host file's, unless another domain has the MAC."""
    wanted = [*(domain.interfaces if domain else []), (host.vm.mac, host.hypervisor.network)]
    found = []
    for mac, name in dict.fromkeys(wanted):
        network = Network(connection, name)
        if network.exists and mac not in others.macs:
            found += [
                StaleReservation(name, mac, entry.ip) for entry in network.reservations() if entry.mac == mac
            ]
    return found


def _filter(host: Host, connection: Libvirt) -> str | None:
    name = egress.filter_name(host)
    xml = Filter(connection, name).xml() if supported(connection) else None
    return name if xml and egress.ours(host, xml) else None


def remove(host: Host, connection: Libvirt, remains: Remains) -> None:
    """Remove everything that was found. Raise Refused, and remove nothing, if another domain uses a volume by now.

    A run that is killed here leaves the domain, so that the next one continues.
    """
    paths = [volume.path for _, volume in remains.volumes]
    for path, user in usage(connection, besides=desired.domain_uuid(host)).of(paths).items():
        raise Refused(
            f"{host.name}: {path} is used by the domain {user!r} by now; nothing was removed",
            "run the command again to see what it would remove",
        )
    domain = Domain.find_by_uuid(connection, desired.domain_uuid(host))
    if domain:
        domain.power_off()
    for _, volume in remains.volumes:
        pool = find_pool(connection, PurePosixPath(volume.path).parent)
        if pool:
            pool.refresh()
            pool.delete(volume.name)
            pool.refresh()
    for entry in remains.reservations:
        Network(connection, entry.network).release(entry.mac)
    if remains.filter:
        Filter(connection, remains.filter).remove()
    _forget(host)
    if domain:
        domain.undefine()


def _forget(host: Host) -> None:
    """Delete the pinned key and the generated part of ssh_config."""
    host.known_hosts.unlink(missing_ok=True)
    ssh.forget(host.name)


def _destroy_pin(host: Host, talk: Talk, *, plan_only: bool) -> Plan:
    """Destroy where no hypervisor was ever started: only a pinned key can be left."""

    def apply(plan: Plan, _: Remains) -> Applied[Remains]:
        _forget(host)
        return Applied(plan)

    def look() -> Remains:
        return Remains(pinned=host.known_hosts.exists())

    plan = reconcile(look, lambda seen: removal(host, seen), apply, talk, plan_only=plan_only)
    if plan and not plan_only:
        talk.done(f"{host.name} is gone")
    return plan
