"""`inv new`: write a host file with addresses and names of its own, and register the host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from swarm.errors import InventoryError, Refused, SwarmError, UsageError
from swarm.fleet import free, instances, place
from swarm.fleet.draft import Own, copied, from_template, renamed
from swarm.inventory import EMBEDDED, Host, load, names, uri
from swarm.inventory.checks import file_of
from swarm.inventory.document import short
from swarm.inventory.fields import NAME
from swarm.plan import Change, Plan
from swarm.reconcile import show

if TYPE_CHECKING:
    from swarm.console import Talk
    from swarm.plan import Action

__all__ = ["Made", "NewHost", "named", "new"]

_FOLDER = PurePosixPath(
    "/var/lib/libvirt/images"
)  # libvirt's own, which every distribution's SELinux and AppArmor allow


@dataclass(frozen=True)
class NewHost:
    """The options of `inv new`. swarm chooses what is empty."""

    name: str
    like: str = ""
    ip: str = ""
    mac: str = ""
    hypervisor: str = ""


@dataclass(frozen=True)
class Made:
    """What was (or would be) done for one host, what a person should know, and the commands to type next."""

    plan: Plan
    host: Host
    notes: tuple[str, ...] = ()
    next: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        own = {"file": str(file_of(self.host.name)), "ip": str(self.host.vm.ip), "mac": self.host.vm.mac}
        lists = {"notes": list(self.notes), "next": list(self.next)}
        return {**self.plan.to_json(), "changed": self.plan.changed, **own, **lists}


def named(name: str) -> str:
    """Return the name of a host. Raise UsageError if no host can have it."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a valid name for a host",
            "use at most 32 lowercase letters, digits, - and _, and not the word all",
        )
    return name


def new(options: NewHost, talk: Talk, *, plan_only: bool) -> Made:
    """Write hosts/NAME.yaml and add the host to the instances file. Return what was done.

    A second call has nothing to do. Raise Refused if there is another host file of this name, UsageError for an option
    that can't be used, Unfit for an instances file that is damaged: nothing is written then.
    """
    named(options.name)
    with place.alone(talk):
        text, host, notes = _draft(options, talk)
        there = place.present(options.name) is not None
        changes = (
            [] if there else [Change("create", short(file_of(options.name)), after=_words(host), detail=text)]
        )
        listed = instances.read()
        if listed.differs(host.name, instances.entry(host)):
            action: Action = "update" if host.name in listed.entries else "create"
            changes.append(Change(action, f"entry {host.name} in {listed.path}"))
        plan = Plan(host.name, tuple(changes))
        for note in notes:
            talk.warn(note)
        show(plan if plan_only else _brief(plan), talk)
        if not plan_only:
            if not there:
                place.put(options.name, text)
            instances.put(host)
        return Made(plan, host, tuple(notes), (f"./inv up --host {host.name}",))


def _words(host: Host) -> str:
    return f"{host.vm.ip}, {host.vm.mac}, {host.vm.disk_path}, on {host.hypervisor.uri}"


def _brief(plan: Plan) -> Plan:
    """Return the plan without the text of the file, which --plan shows."""
    changes = (Change(each.action, each.subject, after=each.after) for each in plan)
    return Plan(plan.host, tuple(changes))


def _draft(options: NewHost, talk: Talk) -> tuple[str, Host, list[str]]:
    """Return the file's text, its host, and notes. An existing file is kept if it is what would be written."""
    hosts, notes = _valid()
    base = _base(options, hosts)
    existing = place.present(options.name)
    if existing is None:
        own, asked = _own(options, base, list(hosts.values()), talk)
        notes += asked
    else:
        own = _kept(options, base)
    text, remarks = _text(base, own)
    if existing is not None:
        if text != existing:
            raise _exists(options.name)
        return text, load(options.name), []
    return text, place.checked(options.name, text), notes + remarks


def _valid() -> tuple[dict[str, Host], list[str]]:
    found, notes = dict[str, Host](), list[str]()
    for name in names():
        try:
            found[name] = load(name)
        except InventoryError:
            notes.append(f"{short(file_of(name))} is invalid, so its addresses are not known")
    return found, notes


def _base(options: NewHost, hosts: dict[str, Host]) -> Host | None:
    """Return the host whose file is copied: --like, or the first one on the same hypervisor."""
    if options.hypervisor and (problem := uri.check(options.hypervisor)):
        raise UsageError(f"--hypervisor: {problem[0]}", problem[1])
    if options.hypervisor == uri.NONE:
        raise _no_vm()
    if options.like:
        if options.like == options.name:
            raise UsageError(f"--like: {options.name} can't be like itself", "name another host")
        base = load(options.like)
        if base.foreign:
            raise _no_vm()
        return base
    others = [host for host in hosts.values() if host.name != options.name and not host.foreign]
    wanted = uri.place(options.hypervisor) if options.hypervisor else None
    return next((host for host in others if wanted in {None, uri.place(host.hypervisor.uri)}), None)


def _no_vm() -> UsageError:
    return UsageError(
        "new makes host files for VMs, and swarm does not make the machines of hypervisor.uri: none",
        "write the file by hand, it is short: docs/scale.md shows one",
    )


def _own(options: NewHost, base: Host | None, hosts: list[Host], talk: Talk) -> tuple[Own, list[str]]:
    where = options.hypervisor or (base.hypervisor.uri if base else EMBEDDED)
    network = base.hypervisor.network if base else "default"
    near = next(
        (host for host in hosts if not host.foreign and uri.place(host.hypervisor.uri) == uri.place(where)),
        base,
    )
    taken = free.survey(options.name, where, network, hosts, near, options.mac, talk)
    domain = renamed(base.vm.domain, base.name, options.name) if base else options.name
    if base and domain == base.vm.domain:
        domain = options.name
    own = Own(
        name=options.name,
        uri=where,
        domain=free.numbered(domain, taken.domains),
        hostname=free.numbered(options.name.replace("_", "-").strip("-"), taken.hostnames),
        disk_path=str(free.disk(taken, base.vm.disk_path.parent if base else _FOLDER, options.name)),
        mac=taken.mac(options.name, options.mac),
        ip=str(free.address(taken, options.ip)),
    )
    if not taken.note:
        return own, []
    assumed = f"the address is one that no host file uses in {taken.network.subnet}"
    return own, [f"{taken.note}; {assumed}"]


def _kept(options: NewHost, base: Host | None) -> Own:
    """Return the values of the host's own file, except what the options say. Raise Refused if it is invalid."""
    try:
        host = load(options.name)
    except SwarmError:
        raise _exists(options.name) from None
    default = base.hypervisor.uri if base else EMBEDDED
    vm = host.vm
    return Own(
        name=options.name,
        uri=options.hypervisor or default,
        domain=vm.domain,
        hostname=vm.hostname,
        disk_path=str(vm.disk_path),
        mac=options.mac.lower() or vm.mac,
        ip=options.ip or str(vm.ip),
    )


def _text(base: Host | None, own: Own) -> tuple[str, list[str]]:
    if base is None:
        return from_template(own), []
    return copied(file_of(base.name).read_text(encoding="utf-8"), base, own)


def _exists(name: str) -> Refused:
    return Refused(
        f"{short(file_of(name))} exists; nothing was changed",
        f"edit that file, or remove the host first: ./inv remove --host {name}",
    )
