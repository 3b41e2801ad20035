"""Host files for tests: copies of hosts/zap.yaml with some values changed, and no backups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swarm import inventory
from swarm.inventory import Host
from swarm.paths import ROOT, hosts_dir

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["host", "public_key", "variant", "write"]

# Without its backups: their destination is a machine in somebody's network.
_TEXT = (ROOT / "hosts" / "zap.yaml").read_text(encoding="utf-8").partition("backup:\n")[0]


def write(name: str = "zap", **fields: str) -> Path:
    """Write a copy of zap.yaml with the values in `fields` to the hosts directory, and return its path."""
    lines = _TEXT.splitlines(keepends=True)
    for key, value in fields.items():
        (number,) = (number for number, line in enumerate(lines) if line.lstrip().startswith(f"{key}:"))
        lines[number] = f"{lines[number].partition(':')[0]}: {value}\n"
    text = "".join(lines)
    path = hosts_dir() / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def host(name: str = "zap", **fields: str) -> Host:
    """Write a host file like `write`, and return its host."""
    write(name, **fields)
    return inventory.load(name)


def variant(base: Host, *, name: str | None = None, **vm: Any) -> Host:
    """Return `base` with the values in `vm`, validated as if read from a file. None removes an optional key."""
    data = base.model_dump(mode="json")
    data["vm"] |= vm
    return Host.model_validate(data | ({"name": name} if name else {}))


def public_key(comment: str = "") -> str:
    """Return the line of a new public key."""
    from swarm import ssh

    return ssh.keypair(comment)[1].strip()
