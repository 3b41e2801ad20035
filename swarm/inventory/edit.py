"""Change one value of a host file and keep its comments, order and format."""

from __future__ import annotations

from swarm.errors import InventoryError
from swarm.inventory.checks import file_of
from swarm.inventory.document import short
from swarm.inventory.files import load
from swarm.inventory.model import Host
from swarm.inventory.roundtrip import edited

__all__ = ["set_ip"]


def set_ip(name: str, ip: str) -> Host:
    """Write the address `ip` to the host file and return the host. An invalid address leaves the file unchanged.

    Raise InventoryError.
    """
    before = load(name)
    if str(before.vm.ip) == ip:
        return before
    path, found = file_of(name), list[Host]()

    def check() -> None:
        after = load(name)
        if after.model_copy(update={"own_vm": before.vm}) != before:
            raise InventoryError(
                f"{short(path)}: the address can't be changed without changing more",
                f"write vm.ip: {ip} by hand",
            )
        found.append(after)

    with edited(path, check) as document:
        document["vm"]["ip"] = ip
    return found[0]
