"""What can be done with an existing VM: start and stop it, read its console and screen."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from swarm.deadline import Deadline
from swarm.embedded import Embedded
from swarm.errors import HypervisorError, Refused
from swarm.hypervisor.connection import Libvirt
from swarm.hypervisor.domain import Domain
from swarm.hypervisor.network import Network
from swarm.inventory import EMBEDDED, Host
from swarm.vm import desired
from swarm.vm.busy import busy
from swarm.vm.destroy import destroy, rest
from swarm.vm.observe import domain_facts
from swarm.vm.ready import SHUTDOWN, TIMEOUT, wait
from swarm.vm.serial import Part, console_log, part
from swarm.vm.share import make_share

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.console import Talk

__all__ = [
    "SHUTDOWN",
    "asleep",
    "console",
    "console_after",
    "destroy",
    "need",
    "screenshot",
    "start",
    "start_networks",
    "stop",
]


def asleep(host: Host) -> bool:
    """Return True if the host's hypervisor is the embedded one and is not running, so that the VM is not either."""
    return host.hypervisor.uri == EMBEDDED and not Embedded().running


def start(host: Host, talk: Talk, limit: float = TIMEOUT) -> bool:
    """Start the VM and wait up to `limit` seconds until the guest is ready. Return True if it had to be started.

    Raise HypervisorError if there is no VM, Unreachable if the guest does not become ready.
    """
    with busy(host, talk), Libvirt(host.hypervisor.uri) as connection:
        domain = need(host, connection)
        if domain.state == "running":
            talk.done(f"{host.name}: already running, nothing to do")
            return False
        start_networks(host, connection)
        make_share(host, connection)
        domain.start()
        wait(host, connection, domain, Deadline(limit), talk)
        talk.done(f"{host.name} is ready at {host.vm.ip}")
        return True


def start_networks(host: Host, connection: Libvirt) -> None:
    """Start the networks that the domain has, which may not be the one that the host file names by now."""
    facts = domain_facts(host, connection)
    for name in dict.fromkeys(name for _, name in facts.interfaces) if facts else ():
        Network(connection, name).activate()


def stop(host: Host, talk: Talk, *, force: bool = False, limit: float = SHUTDOWN) -> bool:
    """Have the guest power off within `limit` seconds, or with `force` at once. Return True if it was running.

    Raise HypervisorError if there is no VM, Refused if the guest does not power off: only `force` may lose data that
    it has not written.
    """
    if asleep(host):
        # The key is pinned before the first boot, and destroy removes it.
        if not (Embedded().exists and host.known_hosts.exists()):
            raise _none(host)
        return _stopped_already(host, talk)
    with busy(host, talk), Libvirt(host.hypervisor.uri) as connection:
        domain = need(host, connection)
        if not domain.active:
            return _stopped_already(host, talk)
        if force:
            domain.power_off()
        else:
            _shut_down(host, domain, talk, limit)
        talk.done(f"{host.name} is stopped")
        rest(connection, talk)
        return True


def _stopped_already(host: Host, talk: Talk) -> bool:
    talk.done(f"{host.name}: already stopped, nothing to do")
    return False


def _shut_down(host: Host, domain: Domain, talk: Talk, limit: float) -> None:
    if domain.state == "paused":
        raise Refused(
            f"{host.name} is paused, so its guest can't power off",
            f"resume it first (./inv start --host {host.name}), or power it off with --force, "
            "which loses unwritten data",
        )
    with talk.step(f"{host.name}: shutting down"):
        if not domain.shutdown(limit):
            raise Refused(
                f"{host.name} did not power off within {limit:.0f} s",
                "wait longer (--timeout SECONDS), or power it off with --force, which loses unwritten data",
            )


def console(host: Host) -> list[str]:
    """Return the serial console's lines since the VM's start, from at most serial.MOST bytes."""
    with Libvirt(host.hypervisor.uri) as connection:
        need(host, connection)
        return console_log(host, connection)


def console_after(host: Host, after: int) -> Part:
    """Return the serial console's complete lines after the first `after` bytes, and where they end."""
    with Libvirt(host.hypervisor.uri) as connection:
        need(host, connection)
        return part(host, connection, after)


def screenshot(host: Host, path: Path) -> tuple[int, int]:
    """Write the VM's screen to `path` as a PNG file. Return its width and height in pixels."""
    from PIL import Image

    with Libvirt(host.hypervisor.uri) as connection:
        domain = need(host, connection)
        if not domain.active:
            raise HypervisorError(
                f"{host.name} is stopped and has no screen", f"./inv start --host {host.name}"
            )
        with Image.open(io.BytesIO(domain.screenshot())) as picture:
            picture.save(path, "PNG")
            return picture.size


def need(host: Host, connection: Libvirt) -> Domain:
    """Return the host's domain. Raise HypervisorError if it has none."""
    domain = Domain.find_by_uuid(connection, desired.domain_uuid(host))
    if domain is None:
        raise _none(host)
    return domain


def _none(host: Host) -> HypervisorError:
    return HypervisorError(f"{host.name} has no VM yet", f"./inv provision --host {host.name} makes it")
