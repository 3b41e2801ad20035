"""Host files like zap's, for the tests of the inventory."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from swarm.errors import InventoryError
from swarm.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Dirs

__all__ = ["ZAP", "refused", "write"]

ZAP = (ROOT / "hosts" / "zap.yaml").read_text(encoding="utf-8")


def write(dirs: Dirs, name: str, **fields: str) -> Path:
    """Write a copy of zap.yaml with the values in `fields`, and unique values where two hosts must differ."""
    number = sum(name.encode()) % 200
    own = {
        "domain": name,
        "hostname": name,
        "disk_path": f"/pool/{name}.qcow2",
        "mac": f"52:54:00:00:00:{number:02x}",
        "ip": f"192.168.122.{number + 2}",
    }
    lines = []
    for line in ZAP.splitlines():
        key = line.partition(":")[0].strip()
        value = {**own, **fields}.get(key)
        lines.append(line if value is None else f"{line.partition(':')[0]}: {value}")
    path = dirs.hosts / f"{name}.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@contextmanager
def refused() -> Iterator[list[str]]:
    """Expect an InventoryError. Afterwards, the list contains its message and its hint."""
    error: list[str] = []
    with pytest.raises(InventoryError) as caught:
        yield error
    error += [caught.value.message, caught.value.hint or ""]
