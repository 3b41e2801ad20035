"""SSH to guests: keys, pinned host keys, one generated ssh_config, one kept connection for each host.

A guest whose host key is not the pinned one is never talked to.
"""

from swarm.ssh.config import Target, argv, config_path, forget, part_path, write_config
from swarm.ssh.connect import KeyRefused, LoginRefused, PortClosed, connect, read_banner
from swarm.ssh.keys import keypair, own_key, pin, pinned

__all__ = [
    "KeyRefused",
    "LoginRefused",
    "PortClosed",
    "Target",
    "argv",
    "config_path",
    "connect",
    "forget",
    "keypair",
    "own_key",
    "part_path",
    "pin",
    "pinned",
    "read_banner",
    "write_config",
]
