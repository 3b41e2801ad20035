"""What is done with a VM that is there: start, stop, destroy, look at its console, say how it is."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from swarm import access, ssh
from swarm.deadline import Deadline
from swarm.embedded import Embedded
from swarm.errors import CommandFailed, HypervisorError, Refused, SwarmError, Unreachable
from swarm.hypervisor.connection import Libvirt
from swarm.hypervisor.domain import Domain
from swarm.hypervisor.network import Network
from swarm.inventory import EMBEDDED, Host
from swarm.ssh.reasons import KeyRefused, LoginRefused
from swarm.vm import desired
from swarm.vm.actions import Action
from swarm.vm.busy import busy
from swarm.vm.destroy import destroy, rest
from swarm.vm.difference import changes, pending, refuse
from swarm.vm.observe import observe
from swarm.vm.ready import SHUTDOWN, TIMEOUT, wait
from swarm.vm.serial import console_log

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.console import Talk

__all__ = ["Status", "asleep", "console", "destroy", "need", "screenshot", "start", "status", "stop"]


_ANSWER = 15.0  # seconds that a guest has to accept our login


@dataclass(frozen=True)
class Status:
    """How a host is: each field in a word or a few."""

    host: str
    vm: str
    acceleration: str = ""
    ip: str = ""
    ssh: str = ""
    drift: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the status as plain data."""
        return {
            "host": self.host,
            "vm": self.vm,
            "acceleration": self.acceleration,
            "ip": self.ip,
            "ssh": self.ssh,
            "drift": self.drift,
        }


def asleep(host: Host) -> bool:
    """Whether the host lives in the embedded hypervisor and that is not running: then its VM cannot run either."""
    return host.hypervisor.uri == EMBEDDED and not Embedded().running


def start(host: Host, talk: Talk, limit: float = TIMEOUT) -> bool:
    """Start the VM and wait until the guest is ready; return whether it was not running. Raise HypervisorError if there is none."""
    with busy(host, talk), Libvirt(host.hypervisor.uri) as connection:
        domain = need(host, connection)
        if domain.state == "running":
            talk.done(f"{host.name}: runs already, nothing to do")
            return False
        network = Network(connection, host.hypervisor.network)
        network.activate()
        domain.start()
        wait(host, connection, domain, Deadline(limit), talk)
        talk.done(f"{host.name} is ready at {host.vm.ip}")
        return True


def stop(host: Host, talk: Talk, *, force: bool = False, limit: float = SHUTDOWN) -> bool:
    """Have the guest power off, within `limit` seconds, or pull the plug with `force`; return whether it was running.

    Raise Refused if the guest does not obey: whoever wants to lose what it has not written yet says so.
    """
    if asleep(host):
        talk.done(f"{host.name}: stopped already, nothing to do")
        return False
    with busy(host, talk), Libvirt(host.hypervisor.uri) as connection:
        domain = need(host, connection)
        if not domain.active:
            talk.done(f"{host.name}: stopped already, nothing to do")
            return False
        if force:
            domain.power_off()
        else:
            with talk.step(f"{host.name}: shutting down"):
                if not domain.shutdown(limit):
                    raise Refused(
                        f"{host.name} did not power off within {limit:.0f} s",
                        "wait longer (--timeout SECONDS), or pull the plug with --force: what it has not written to its disk is lost then",
                    )
        talk.done(f"{host.name} is stopped")
        rest(connection, talk)
        return True


def console(host: Host, last: int | None = None) -> list[str]:
    """Return what the serial console said since the VM's start, at most its `last` bytes."""
    with Libvirt(host.hypervisor.uri) as connection:
        need(host, connection)
        return console_log(host, connection, last)


def screenshot(host: Host, path: Path) -> tuple[int, int]:
    """Write what the VM's screen shows as a PNG file; return its width and height in pixels."""
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


def status(host: Host) -> Status:
    """Return how a host is. Nothing is started for it: a VM whose embedded hypervisor does not run is stopped."""
    if asleep(host):
        return Status(host.name, "stopped" if Embedded().exists else "none")
    with Libvirt(host.hypervisor.uri) as connection:
        observed = observe(host, connection)
        if observed.domain is None:
            return Status(host.name, "none", ip=str(host.vm.ip))
        try:
            refuse(host, observed)
            upkeep = [
                change for change in changes(host, observed) if change.key not in {Action.START, Action.BOOT}
            ]
            words = [f"{len(upkeep)} to change"] if upkeep else []
            words += ["waits for a restart"] if pending(observed.domain) else []
            drift = ", ".join(words) or "none"
        except SwarmError as error:
            drift = error.message
        state = observed.domain.state
        kind = "KVM" if observed.kind == "kvm" else "emulation"
        return Status(
            host.name, state, kind, str(host.vm.ip), _ssh_word(host) if state == "running" else "", drift
        )


def _ssh_word(host: Host) -> str:
    from swarm.ssh.guest import Guest

    try:
        Guest(access.reach(host), host.name).run("true", timeout=_ANSWER)
    except KeyRefused:
        return "other host key"
    except LoginRefused:
        return "login refused"
    except (CommandFailed, Unreachable):
        return "no answer"
    return "ok"


def need(host: Host, connection: Libvirt) -> Domain:
    """Return the host's domain. Raise HypervisorError if it has none."""
    domain = Domain.find_by_uuid(connection, desired.domain_uuid(host))
    if domain is None:
        raise HypervisorError(f"{host.name} has no VM yet", f"./inv provision --host {host.name} makes it")
    return domain
