"""The command that lists the host files."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from swarm.console import screen
from swarm.errors import explained
from swarm.inventory import cross_check, load, names, size

if TYPE_CHECKING:
    from swarm.errors import SwarmError
    from swarm.inventory import Host

__all__ = ["hosts"]

_COLUMNS = ("host", "domain", "ip", "memory", "vCPUs", "disk", "image", "hypervisor")


def hosts(*, as_json: bool) -> int:
    """List the host files. An error in one of them does not hide the others, and is its item in the JSON."""
    found: list[Host] = []
    errors: list[SwarmError] = []
    items: list[dict[str, Any]] = []
    for name in names():
        try:
            found.append(load(name))
            items.append(found[-1].model_dump(mode="json"))
        except Exception as error:  # noqa: BLE001 - a broken file must not hide the others
            problem = explained(error)
            errors.append(problem)
            items.append({"name": name, "error": {"message": problem.message, "hint": problem.hint}})
    try:
        cross_check(found)
    except Exception as error:  # noqa: BLE001 - as above
        errors.append(explained(error))
    for problem in errors:
        screen().error(problem)
    with (
        screen().verdict() if errors else nullcontext()
    ):  # a complete list has no other verdict than its rows
        if as_json:
            screen().json(items)
        else:
            screen().table(_COLUMNS, [_row(host) for host in found])
    return max((problem.exit_code for problem in errors), default=0)


def _row(host: Host) -> tuple[str, ...]:
    if host.machine:
        return (host.name, "", host.address, "", "", "", "", host.hypervisor.uri)
    vm = host.vm
    memory, disk = f"{vm.memory_mib} MiB", size(vm.disk_size)
    return (host.name, vm.domain, str(vm.ip), memory, str(vm.vcpus), disk, vm.image, host.hypervisor.uri)
