"""How the guest of a host file is reached: its address, pinned key and login."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm import ssh
from swarm.embedded import Embedded
from swarm.errors import Unreachable
from swarm.hypervisor import uri
from swarm.inventory import EMBEDDED, load
from swarm.ssh.config import PORT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from swarm.inventory import Host
    from swarm.ssh.guest import Guest

__all__ = ["authorized_keys", "guest", "port", "prepare", "reach", "target"]


def target(host: Host, user: str = "root") -> ssh.Target:
    """Return how to reach the guest of `host` as `user`."""
    way = uri.jump(host.hypervisor.uri)
    return ssh.Target(
        name=host.name,
        address=host.address,
        known_hosts=host.known_hosts,
        user=user,
        identity=None if host.openclaw.ssh_keys else ssh.own_key(),
        embedded=Embedded() if host.hypervisor.uri == EMBEDDED else None,
        jump=ssh.Jump(*way) if way else None,
        port=port(host),
        near=not (host.hypervisor.remote or host.foreign),
        authorized=host.openclaw.ssh_keys,
    )


def port(host: Host) -> int:
    """Return the port on which the guest's SSH server is reached."""
    return host.machine.port if host.machine else PORT


def authorized_keys(host: Host) -> list[str]:
    """Return the public keys that may log in: the host file's, or swarm's own key if it names none."""
    return list(host.openclaw.ssh_keys) or [ssh.own_public_key()]


def prepare(hosts: Iterable[Host]) -> None:
    """Write the ssh_config of many hosts at once, which reach() would do for one after another."""
    ssh.write_configs(target(host) for host in hosts if host.known_hosts.exists())


def reach(host: Host) -> Path:
    """Return the generated ssh_config of this host alone. Raise Unreachable for a host without a pinned key."""
    if not host.known_hosts.exists():
        raise Unreachable(
            f"{host.name} has no pinned host key, so it cannot be identified",
            f"./inv provision --host {host.name} creates the VM, or pins the key of an existing one",
        )
    ssh.write_config(target(host))
    return ssh.part_path(host.name)


def guest(name: str) -> Guest:
    """Return the guest of a host file, as root, for tasks of your own.

    Use it as a context manager: `with guest("zap") as connection: connection.run("uptime")`.

    Output is shown and returned, as with every fabric.Connection. Raise InventoryError for an invalid host
    file, Unreachable for a host without a pinned key.
    """
    from swarm.ssh.guest import Guest

    return Guest(reach(load(name)), name, hide=False)
