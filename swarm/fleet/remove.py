"""`inv remove`: undo `inv new`. What a backup has saved stays."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swarm import ssh, timers
from swarm.backup.monitor import metrics_file
from swarm.embedded import Embedded
from swarm.errors import InventoryError, Refused, SwarmError
from swarm.fleet import instances, place, unfinished
from swarm.fleet.ask import ask
from swarm.fleet.new import named
from swarm.hypervisor.domain import Domain
from swarm.inventory import EMBEDDED, load
from swarm.inventory.checks import file_of
from swarm.inventory.document import short
from swarm.paths import hosts_dir, instances_file, mirrors_dir, state_dir
from swarm.plan import Change, Plan
from swarm.reconcile import Applied, reconcile
from swarm.vm import desired
from swarm.vm.busy import busy

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.console import Talk
    from swarm.inventory import Host

__all__ = ["Found", "remove"]

_PATIENCE = 60.0  # seconds: an embedded hypervisor that sleeps is started for the question


@dataclass(frozen=True)
class Found:
    """What there is of a host outside its VM. `timers` are changes in words, as swarm.timers returns them.

    `metrics` is the file with those of its backups: Prometheus would know the host for ever.
    """

    file: bool = False
    pin: bool = False
    listed: bool = False
    upgrade: bool = False  # one that is unfinished
    timers: tuple[str, ...] = ()
    metrics: Path | None = None


def remove(name: str, talk: Talk, *, plan_only: bool, yes: bool, force: bool = False) -> Plan:
    """Remove the host's timers, entry in the instances file, metrics, pinned key, notes about it and its host file.

    Ask first, unless `yes`. Return what was (or would be) removed. Raise Refused while the VM exists, if its hypervisor
    does not answer and it is not forced, or if the answer is no. Archives, mirrors and records stay.
    """
    host = _host(named(name), talk)
    with busy(host, talk) if host else nullcontext(), place.alone(talk):
        if host:
            _refuse_vm(host, talk, force=force)

        def confirm(_: Plan) -> None:
            if not yes and not talk.ask(f"Remove all this? hosts/{name}.yaml cannot be restored."):
                raise Refused(f"{name} was not removed", "answer y, or give --yes")

        def apply(plan: Plan, found: Found) -> Applied[Found]:
            _remove(name, found, talk)
            return Applied(plan)

        plan = reconcile(
            lambda: _look(name, host),
            lambda found: _difference(name, found),
            apply,
            talk,
            plan_only=plan_only,
            confirm=confirm,
        )
    if not plan and host is None:
        talk.say(f"there is no host {name!r}")
    for kept in _kept(name, host) if plan else ():
        talk.say(f"kept: {kept}")
    return plan


def _host(name: str, talk: Talk) -> Host | None:
    """Return the host, or None without a file. One that can't be read can still be removed."""
    if place.present(name) is None:
        return None
    try:
        return load(name)
    except InventoryError as error:
        talk.warn(f"whether {name} still has a VM is not known: {error.message}")
        return None


def _refuse_vm(host: Host, talk: Talk, *, force: bool) -> None:
    """Raise Refused if the host's VM exists. Nobody could find it afterwards. With `force`, not knowing is enough."""
    if host.foreign or (host.hypervisor.uri == EMBEDDED and not Embedded().exists):
        return
    try:
        domain = ask(
            host.hypervisor.uri,
            lambda connection: Domain.find_by_uuid(connection, desired.domain_uuid(host)),
            _PATIENCE,
        )
    except SwarmError as error:
        unknown = f"whether {host.name} still has a VM is not known: {error.message}"
        if not force:
            raise Refused(
                f"{unknown}; nothing was removed",
                "switch the hypervisor on, or give --force if the VM and its disk are gone",
            ) from error
        talk.warn(unknown)
        return
    if domain:
        raise Refused(
            f"{host.name} still has a VM, {domain.name!r}; nothing was removed",
            f"./inv destroy --host {host.name} removes it with its disk",
        )


def _look(name: str, host: Host | None) -> Found:
    return Found(
        file=place.present(name) is not None,
        pin=_pin(name).exists(),
        listed=name in instances.read().entries,
        upgrade=unfinished.path(name).exists(),
        timers=tuple(timers.remove([name], plan_only=True)) if _timed(name) else (),
        metrics=_metrics(name, host),
    )


def _metrics(name: str, host: Host | None) -> Path | None:
    folder = host.backup.metrics if host else None
    return path if folder and os.path.lexists(path := metrics_file(folder, name)) else None


def _timed(name: str) -> bool:
    """Whether the host has a timer. The unit files that all hosts share are no reason to change anything."""
    return any(host == name for _, host in timers.enabled())


def _pin(name: str) -> Path:
    return hosts_dir() / f"{name}.known_hosts"


def _difference(name: str, found: Found) -> Plan:
    changes = [Change("run", line) for line in found.timers]
    if found.listed:
        changes.append(Change("delete", f"entry {name} in {instances_file()}"))
    if found.upgrade:
        changes.append(Change("delete", "note of an unfinished upgrade", str(unfinished.path(name))))
    if found.metrics:
        changes.append(Change("delete", "metrics of the backups", str(found.metrics)))
    if found.pin:
        changes.append(Change("delete", "pinned host key", str(_pin(name))))
    if found.file:
        changes.append(Change("delete", "host file", short(file_of(name))))
    return Plan(name, tuple(changes))


def _remove(name: str, found: Found, talk: Talk) -> None:
    """Remove everything. The host file goes last, so that a run that is stopped can be repeated."""
    if _timed(name):
        timers.remove([name])
    instances.drop(name)
    unfinished.forget(name, talk)
    if found.metrics:
        found.metrics.unlink(missing_ok=True)
    _pin(name).unlink(missing_ok=True)
    ssh.forget(name)
    file_of(name).unlink(missing_ok=True)


def _kept(name: str, host: Host | None) -> list[str]:
    """Return what stays, and where."""
    folders = {"the mirror": mirrors_dir() / name, "the record of the backups": state_dir() / "backup" / name}
    found = [f"{what}, {path}" for what, path in folders.items() if path.exists()]
    return found + [f"the archives in {place}" for place in (host.backup.destinations if host else ())]
