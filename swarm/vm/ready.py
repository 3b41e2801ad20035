"""Wait until a host's guest is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm import access, ssh
from swarm.errors import HypervisorError
from swarm.vm.ladder import Ladder, Rung, wait_for_guest
from swarm.vm.observe import seed_of
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
    """Wait until the host's guest is ready. Return the rungs, or raise Unreachable, naming the one not reached.

    While the domain has the seed, this is the first boot, and cloud-init must finish without an error.
    """
    share = host.vm.virtiofs

    def console() -> list[str]:
        try:
            return console_log(host, connection, _CONSOLE)
        except HypervisorError:
            return []

    from swarm.ssh.guest import Guest

    target = access.target(host)
    ssh.write_config(target)
    ladder = Ladder(
        Guest(ssh.part_path(host.name), host.name, booting=True),
        user=target.user,
        state=lambda: domain.state,
        console=console,
        share=(share.tag, str(share.target)) if share else None,
        deadline=deadline,
        first_boot=seed_of(domain.xml()) is not None,
    )
    return wait_for_guest(ladder, talk)
