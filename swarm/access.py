"""From a host to its SSH target: address, pinned key and jump host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm import ssh
from swarm.embedded import Embedded
from swarm.hypervisor import uri
from swarm.inventory import EMBEDDED

if TYPE_CHECKING:
    from swarm.inventory import Host

__all__ = ["authorized_keys", "target"]


def target(host: Host, user: str = "root") -> ssh.Target:
    """Return how to reach the guest of `host` as `user`."""
    return ssh.Target(
        name=host.name,
        address=str(host.vm.ip),
        known_hosts=host.known_hosts,
        user=user,
        identity=None if host.openclaw.ssh_keys else ssh.own_key(),
        embedded=Embedded() if host.hypervisor.uri == EMBEDDED else None,
        jump=uri.jump(host.hypervisor.uri),
        near=not host.hypervisor.remote,
    )


def authorized_keys(host: Host) -> list[str]:
    """Return the public keys that may log in: the host file's, or swarm's own key if it names none."""
    return list(host.openclaw.ssh_keys) or [
        ssh.own_key().with_suffix(".pub").read_text(encoding="utf-8").strip()
    ]
