"""From a host to its SSH target: address, pinned key, and the way there."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from swarm import ssh
from swarm.embedded import Embedded
from swarm.inventory import EMBEDDED

if TYPE_CHECKING:
    from swarm.inventory import Host

__all__ = ["authorized_keys", "target"]

_SSH = ("qemu+ssh", "qemu+libssh", "qemu+libssh2")  # libvirt's ways to a hypervisor over SSH


def target(host: Host, user: str = "root") -> ssh.Target:
    """Return how to reach the guest of `host` as `user`."""
    uri = urlsplit(host.hypervisor.uri)
    return ssh.Target(
        name=host.name,
        address=str(host.vm.ip),
        known_hosts=host.known_hosts,
        user=user,
        identity=None if host.openclaw.ssh_keys else ssh.own_key(),
        embedded=Embedded() if host.hypervisor.uri == EMBEDDED else None,
        jump=f"ssh://{uri.netloc}" if uri.scheme in _SSH else None,
        near=not host.hypervisor.far,
    )


def authorized_keys(host: Host) -> list[str]:
    """Return the public keys that may log in: the host file's, or swarm's own where it names none."""
    return list(host.openclaw.ssh_keys) or [
        ssh.own_key().with_suffix(".pub").read_text(encoding="utf-8").strip()
    ]
