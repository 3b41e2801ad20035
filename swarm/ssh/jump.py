"""The way to a guest through its remote hypervisor. All guests behind one share one connection to it (jump.sh)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swarm.paths import ROOT
from swarm.ssh.sockets import socket_dir, socket_name
from swarm.ssh.words import proxy, word

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Jump"]


@dataclass(frozen=True)
class Jump:
    """A remote hypervisor as ssh reaches it: by the user's own configuration, which libvirt uses too.

    `destination` is user@machine or ssh://user@machine:port. `keyfile` and `known_hosts` are those of libvirt's URI.
    """

    destination: str
    keyfile: Path | None = None
    known_hosts: Path | None = None

    def proxy_command(self) -> str:
        """Return the value of ProxyCommand. ProxyJump would read the guest's ssh_config for the hypervisor."""
        way = self._words()
        socket = socket_dir() / socket_name(hashlib.sha256("\0".join(way).encode()).digest())
        shared = [str(socket), f"ControlPath={word(socket)}"]
        return proxy("sh", ROOT / "swarm/ssh/jump.sh", "%h", "%p", *shared, *way)

    def argv(self, *more: str) -> list[str]:
        """Return the words that run ssh to the hypervisor itself, over a connection of its own, and then `more`."""
        return ["ssh", *self._words(), *more]

    def _words(self) -> list[str]:
        """Return ssh's options and the destination."""
        options = ["-o", "BatchMode=yes"]
        if self.keyfile:
            # As libvirt does with -i, so the agent's keys are offered too: what lets libvirt in, lets us in. But -i
            # takes no path with a percent sign.
            options += ["-o", f"IdentityFile={word(self.keyfile)}"]
        if self.known_hosts:
            options += ["-o", f"UserKnownHostsFile={word(self.known_hosts)}"]
        return [*options, self.destination]
