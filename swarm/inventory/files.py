"""Find, read and validate the host files."""

from __future__ import annotations

import json
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from swarm.errors import InventoryError
from swarm.inventory import uri
from swarm.inventory.checks import cross_check, file_of
from swarm.inventory.document import read, short
from swarm.inventory.fields import NAME
from swarm.inventory.model import Host
from swarm.inventory.report import Problem, failure, problems
from swarm.inventory.shares import unfit_share
from swarm.paths import hosts_dir

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from swarm.inventory.document import Document

__all__ = ["load", "load_all", "load_draft", "load_others", "load_several", "names", "validate"]


def names() -> list[str]:
    """Return the names of all host files, sorted. Hidden files, such as an editor's, are ignored."""
    return sorted(path.stem for path in hosts_dir().glob("*.yaml") if not path.name.startswith("."))


def load(name: str) -> Host:
    """Return the host called `name`. Raise InventoryError if its file does not exist or is invalid."""
    path = file_of(name)
    if not NAME.fullmatch(name):
        raise _misnamed(name)
    try:
        document = read(path)
    except FileNotFoundError:
        raise _unknown(name) from None
    host = validate(name, document)
    if isinstance(host, Host):
        return host
    raise failure([(document, problem) for problem in host])


def validate(name: str, document: Document) -> Host | list[Problem]:
    """Return the host, or its problems."""
    values = document.values
    if "name" in values:
        return [
            Problem(("name",), "unknown key: the host's name comes from the file name", "remove the line")
        ]
    try:
        # Strict validation converts text to addresses and paths only in JSON mode. Numbers still have to be numbers.
        host = Host.model_validate_json(json.dumps({**values, "name": name}), strict=True)
    except ValidationError as error:
        return problems(document, error.errors(include_url=False))
    problem = _sections(host, values) or _source(host, values)
    return [problem] if problem else host


def _sections(host: Host, values: dict[str, Any]) -> Problem | None:
    """Return what is wrong with vm and machine, of which exactly one is there, as hypervisor.uri demands."""
    for key in ("vm", "machine"):
        if key in values and values[key] is None:
            message = "expected a section with keys, found nothing"
            return Problem((key,), message, "indent its keys below it, or remove the line")
    wanted, other = ("machine", "vm") if host.foreign else ("vm", "machine")
    there = {"vm": host.own_vm is not None, "machine": host.machine is not None}
    if there[other]:
        if host.foreign:
            return Problem(
                (other,), "there is no VM if hypervisor.uri is none", "write a section machine instead"
            )
        return Problem(
            (other,), "this section is for hypervisor.uri: none", "remove it, or set hypervisor.uri"
        )
    if not there[wanted]:
        hint = (
            "see docs/scale.md for an example" if host.foreign else "see hosts/demo.yaml for a short example"
        )
        return Problem((wanted,), "this section is missing", hint)
    if host.drill.hypervisor == uri.NONE:
        return Problem(
            ("drill", "hypervisor"), "a drill needs a hypervisor", "use embedded, or a libvirt URI"
        )
    return None


def _source(host: Host, values: dict[str, Any]) -> Problem | None:
    where, share = ("vm", "virtiofs", "source"), host.share
    if share is None:
        return None
    if host.hypervisor.remote and not values["vm"]["virtiofs"]["source"].startswith("/"):
        return Problem(
            where,
            "expected an absolute path, because the hypervisor is another machine",
            "write the path on the hypervisor; ~ and relative paths would refer to this machine",
        )
    if reason := unfit_share(share.source, here=not host.hypervisor.remote):
        hint = "share a folder that holds nothing else, such as ~/lab/share"
        return Problem(where, f"{reason}, and the guest could write there with any owner", hint)
    return None


def load_several(chosen: Sequence[str]) -> list[Host]:
    """Return the hosts called `chosen`, in that order, after checking each against all other host files.

    Raise InventoryError if one of them is invalid or conflicts with another host. Invalid host files that are not
    chosen are ignored.
    """
    hosts = [load(name) for name in dict.fromkeys(chosen)]
    cross_check([*load_others(chosen), *hosts], chosen)
    return hosts


def load_draft(name: str, path: Path) -> Host:
    """Return the host that the file at `path` describes once it is hosts/NAME.yaml, checked like load_several.

    Raise InventoryError, which names `path`, if it is invalid or conflicts with another host.
    """
    document = read(path)
    host = validate(name, document)
    if not isinstance(host, Host):
        raise failure([(document, problem) for problem in host])
    cross_check([*load_others([name]), host], [name])
    return host


def load_others(besides: Sequence[str]) -> list[Host]:
    """Return the valid hosts that are not in `besides`. The error of another file is reported when it is chosen."""
    found = []
    for name in names():
        if name not in besides:
            try:
                found.append(load(name))
            except InventoryError:
                continue
    return found


def load_all() -> list[Host]:
    """Return all hosts, sorted by name. Raise InventoryError if a file is invalid or two hosts conflict."""
    hosts = [load(name) for name in names()]
    cross_check(hosts)
    return hosts


def _near(name: str) -> str:
    known = [one for one in names() if NAME.fullmatch(one)]
    near = get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]}?"
    return f"known hosts: {', '.join(known)}" if known else f"there are no host files in {hosts_dir()}"


def _misnamed(name: str) -> InventoryError:
    rule = "at most 32 lowercase letters, digits, - and _, and not the word all"
    if name in names():
        return InventoryError(
            f"{short(file_of(name))}: {name!r} is not a valid name for a host", f"rename the file: use {rule}"
        )
    return InventoryError(f"{name!r} is not a valid name for a host: expected {rule}", _near(name))


def _unknown(name: str) -> InventoryError:
    path = file_of(name)
    if path.is_symlink():
        return InventoryError(
            f"{short(path)} is a symbolic link to {path.readlink()}, which does not exist",
            "correct or remove the link",
        )
    hint = f"rename {name}.yml to {name}.yaml" if path.with_suffix(".yml").is_file() else _near(name)
    return InventoryError(f"there is no host {name!r}: {short(path)} does not exist", hint)
