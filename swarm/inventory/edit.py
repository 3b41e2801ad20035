"""Change one value of a host file and keep its comments, order and format."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from swarm.errors import InventoryError
from swarm.files import write_atomically
from swarm.inventory.checks import file_of
from swarm.inventory.document import short
from swarm.inventory.files import load

if TYPE_CHECKING:
    from swarm.inventory.model import Host

__all__ = ["set_ip"]


def set_ip(name: str, ip: str) -> Host:
    """Write the address `ip` to the host file and return the host. An invalid address leaves the file unchanged.

    Raise InventoryError.
    """
    from ruamel.yaml import YAML

    path = file_of(name)
    before = load(name)
    if str(before.vm.ip) == ip:
        return before
    old = path.read_text(encoding="utf-8")
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1 << 16  # long lines stay as they are
    yaml.indent(mapping=2, sequence=4, offset=2)
    document = yaml.load(old)
    document["vm"]["ip"] = ip
    new = io.StringIO()
    yaml.dump(document, new)
    mode = path.stat().st_mode & 0o777
    write_atomically(path, new.getvalue(), mode=mode)
    try:
        after = load(name)
    except InventoryError:
        write_atomically(path, old, mode=mode)
        raise
    if after.model_copy(update={"vm": before.vm}) != before:
        write_atomically(path, old, mode=mode)
        raise InventoryError(
            f"{short(path)}: the address can't be changed without changing more", f"write vm.ip: {ip} by hand"
        )
    return after
