"""SSH to guests: keys, pinned host keys, one generated ssh_config, one kept connection for each host.

A guest whose host key is not the pinned one never receives anything. `Guest` is loaded when it is first used, since
Fabric takes 80 ms to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.ssh.config import Target, argv, config_path, forget, part_path, write_config, write_configs
from swarm.ssh.jump import Jump
from swarm.ssh.keys import keypair, own_key, own_public_key, pin, pinned

if TYPE_CHECKING:
    from swarm.ssh.guest import Guest

__all__ = [
    "Guest",
    "Jump",
    "Target",
    "argv",
    "config_path",
    "forget",
    "keypair",
    "own_key",
    "own_public_key",
    "part_path",
    "pin",
    "pinned",
    "write_config",
    "write_configs",
]


def __getattr__(name: str) -> object:
    if name != "Guest":
        raise AttributeError(f"module 'swarm.ssh' has no attribute {name!r}")
    from swarm.ssh.guest import Guest

    return Guest
