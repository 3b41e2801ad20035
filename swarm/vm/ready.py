"""Wait until a host's guest is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm import access
from swarm.errors import HypervisorError
from swarm.vm.ladder import Climb, Rung, climb
from swarm.vm.serial import console_log

if TYPE_CHECKING:
    from swarm.console import Talk
    from swarm.deadline import Deadline
    from swarm.hypervisor.connection import Libvirt
    from swarm.hypervisor.domain import Domain
    from swarm.inventory import Host

__all__ = ["SHUTDOWN", "TIMEOUT", "wait"]

# Seconds that a guest may take to become ready. A boot under emulation takes one or two minutes on a quiet machine.
TIMEOUT = 900.0

SHUTDOWN = 90.0  # seconds that a guest has to power off; systemd's own limit for a unit is 90

_CONSOLE = 16 * 1024  # bytes at the console log's end from which a failure quotes the last lines


def wait(host: Host, connection: Libvirt, domain: Domain, deadline: Deadline, talk: Talk) -> list[Rung]:
    """Wait until the host's guest is ready and return the rungs reached. Raise Unreachable, naming the rung that was not."""
    share = host.vm.virtiofs

    def console() -> list[str]:
        try:
            return console_log(host, connection, _CONSOLE)
        except HypervisorError:
            return []

    way = Climb(
        access.target(host), lambda: domain.state, console, (share.tag, str(share.target)) if share else None
    )
    return climb(way, deadline, talk)
