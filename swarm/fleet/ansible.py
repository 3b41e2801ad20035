"""`inv new --from FOLDER`: host files for the VMs of an old Ansible folder, and a list of what was not carried over."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from swarm.errors import InventoryError
from swarm.fleet import folder, instances, place
from swarm.fleet.draft import SCHEMA
from swarm.fleet.folder import Left, Origin, Value
from swarm.fleet.variables import CARRIED, SECTIONS, Unreadable, reason, value
from swarm.inventory import Host, cross_check, load_others, validate
from swarm.inventory.checks import file_of, namesake
from swarm.inventory.document import Document, short
from swarm.inventory.fields import NAME
from swarm.plan import Change, Plan
from swarm.reconcile import show

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from swarm.console import Talk
    from swarm.fleet.folder import Variables

__all__ = ["Imported", "bring"]

State = Literal["new", "same", "exists", "invalid"]
_ORDER = ("hypervisor", "vm", "guest", "openclaw", "backup", "agentmon")  # of a host file's sections
_HERE = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class Imported:
    """What became of each host of the folder, and what was not carried over."""

    plan: Plan
    states: Mapping[str, State]
    left: tuple[Left, ...]

    @property
    def exit_code(self) -> int:
        """1 if a host could not be written because it would be invalid."""
        return int("invalid" in self.states.values())

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        left = [
            {"file": each.where.file, "line": each.where.line or None, "name": each.name, "reason": each.why}
            for each in self.left
        ]
        changes = [change.to_json() for change in self.plan]
        return {"changed": self.plan.changed, "changes": changes, "hosts": dict(self.states), "left": left}


def bring(path: Path, talk: Talk, *, plan_only: bool) -> Imported:
    """Convert every host of the old folder. Existing host files are kept. Return what was (or would be) done.

    Raise UsageError if there is no inventory in the folder, Unfit if the instances file is damaged.
    """
    read = folder.read(path)
    left, states, accepted = list(read.left), dict[str, State](), dict[str, tuple[Host, str]]()
    with place.alone(talk):
        listed = instances.read()
        files = load_others([])
        for name in read.hosts:
            values, reasons = _values(name, read.hosts[name], read.named[name])
            left += reasons
            if values is None:
                continue
            before = [host for host, _ in accepted.values()]
            values, renamed = _own_name(
                name, values, [*before, *(host for host in files if host.name != name)]
            )
            text = _render(path.resolve().name, values)
            states[name], problems = _state(name, values, text, read.named[name], before)
            left += [*renamed, *problems]
            if states[name] in {"new", "same"}:
                accepted[name] = place.checked(name, text), text
        changes = [
            Change(
                "create",
                short(file_of(name)),
                after=f"from {read.named[name]}",
                detail=text if plan_only else None,
            )
            for name, (_, text) in accepted.items()
            if states[name] == "new"
        ]
        changes += [
            Change("update" if name in listed.entries else "create", f"entry {name} in {listed.path}")
            for name, (host, _) in accepted.items()
            if listed.differs(name, instances.entry(host))
        ]
        plan = Plan(str(path), tuple(changes))
        show(plan, talk)
        for name, (host, text) in accepted.items() if not plan_only else ():
            if states[name] == "new":
                place.put(name, text)
            instances.put(host)
    return Imported(plan, states, tuple(dict.fromkeys(left)))


def _values(
    name: str, variables: Variables, where: Origin
) -> tuple[dict[str, tuple[Any, Origin]] | None, list[Left]]:
    """Return the value and the origin of each key, or None if this is no VM; and what was not carried over."""
    connection = variables.get("ansible_connection")
    if name in _HERE or (connection and connection.raw == "local"):
        return None, [Left(where, name, "this computer needs no host file")]
    flat = dict(_flat(variables))
    values, left = dict[str, tuple[Any, Origin]](), list[Left]()
    for variable in sorted(flat, key=_rank):
        given = flat[variable]
        if why := reason(variable):
            left.append(Left(given.where, variable, why))
            continue
        key, kind = CARRIED[variable]
        found, problems = _read(variable, kind, given)
        left += problems
        if found is None:
            continue
        if key in values and values[key][0] != found:
            left.append(
                Left(given.where, variable, f"{key} has another value already, from {values[key][1]}")
            )
        values.setdefault(key, (found, given.where))
    if not any(key.startswith("vm.") and key != "vm.ip" for key in values):
        return None, [*left, Left(where, name, "no variable vm_… describes a VM")]
    values.setdefault("vm.domain", (name, where))
    values.setdefault("vm.hostname", (_as_hostname(name), where))
    return values, left


def _as_hostname(name: str) -> str:
    return name.replace("_", "-").strip("-")


def _own_name(
    name: str, values: dict[str, tuple[Any, Origin]], others: list[Host]
) -> tuple[dict[str, tuple[Any, Origin]], list[Left]]:
    """Give the host a name of its own if a variable, such as one of a group, gives it that of another host."""
    host = validate(name, Document(file_of(name), _nested(values))) if NAME.fullmatch(name) else None
    other = namesake(host, others) if isinstance(host, Host) and not host.foreign else None
    if other is None:
        return values, []
    given, where = values["vm.hostname"]
    own = _as_hostname(name)
    why = f"{given} is the host name of {other.name} already, so {name} has {own}"
    return {**values, "vm.hostname": (own, where)}, [Left(where, "vm.hostname", why)]


def _rank(variable: str) -> tuple[int, str]:
    """Return the place in the table: of two variables for one key, the earlier one counts."""
    return list(CARRIED).index(variable) if variable in CARRIED else len(CARRIED), variable


def _flat(variables: Variables, prefix: str = "") -> Iterator[tuple[str, Value]]:
    """Yield the variables, and those in a mapping such as vm: {mac: …} as vm_mac."""
    for name, given in variables.items():
        full = f"{prefix}_{name}" if prefix else name
        if full in SECTIONS and isinstance(given.raw, dict) and given.raw:
            yield from _flat(given.raw, full)
        else:
            yield full, given


def _read(variable: str, kind: str, given: Value) -> tuple[Any, list[Left]]:
    """Return the value of a variable, or None, and what of it can't be carried over."""
    if given.why:
        return None, [Left(given.where, variable, given.why)]
    if given.raw in ({}, ""):
        return None, [Left(given.where, variable, "it has no value")]
    raw, left = given.raw, []
    if isinstance(raw, list):
        left = [Left(item.where, variable, item.why) for item in raw if item.why]
        raw = [item.raw for item in raw if not item.why]
        if left and not raw:
            return None, left
    try:
        return value(kind, raw), left
    except Unreadable as error:
        return None, [*left, Left(given.where, variable, error.message)]


def _nested(values: Mapping[str, tuple[Any, Origin]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    order = [key for key, _ in CARRIED.values()]
    for key in sorted(values, key=lambda key: (_ORDER.index(key.partition(".")[0]), order.index(key))):
        *sections, last = key.split(".")
        at = made
        for section in sections:
            at = at.setdefault(section, {})
        at[last] = values[key][0]
    return made


def _render(source: str, values: Mapping[str, tuple[Any, Origin]]) -> str:
    from ruamel.yaml import YAML

    yaml, text = YAML(), io.StringIO()
    yaml.width = 1 << 16  # a public key stays on one line
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump(_nested(values), text)
    comment = f"# Made by `./inv new --from` from {source!r}. hosts/README.md explains every key.\n"
    return SCHEMA + (comment if source.isprintable() else "") + text.getvalue()


def _state(
    name: str, values: Mapping[str, tuple[Any, Origin]], text: str, where: Origin, accepted: list[Host]
) -> tuple[State, list[Left]]:
    """Return what becomes of a host, and why it is not written if it is not."""
    if not NAME.fullmatch(name):
        return "invalid", [
            Left(where, name, "not a valid name: use at most 32 lowercase letters, digits, - and _")
        ]
    there = place.present(name)
    if there is not None and there != text:
        return "exists", [Left(where, name, f"{short(file_of(name))} exists and is kept")]
    host = validate(name, Document(file_of(name), _nested(values)))
    if not isinstance(host, Host):
        origins = {key: origin for key, (_, origin) in values.items()}
        return "invalid", [
            Left(_origin(each.field, origins) or where, name, f"{each.field}: {each.message}")
            for each in host
        ]
    try:
        cross_check([*accepted, host], [name])
        place.checked(name, text)
    except InventoryError as error:
        return "invalid", [Left(where, name, error.message.removeprefix("no host file was written: "))]
    return ("new" if there is None else "same"), []


def _origin(field: str, origins: Mapping[str, Origin]) -> Origin | None:
    return next(
        (origin for key, origin in origins.items() if field == key or field.startswith(f"{key}[")), None
    )
