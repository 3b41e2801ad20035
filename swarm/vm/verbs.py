"""What is done with a VM that is there: start, stop, destroy, look at its console, say how it is."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from swarm import access, ssh
from swarm.console import Talk
from swarm.deadline import Deadline
from swarm.embedded import Embedded
from swarm.errors import CommandFailed, HypervisorError, Refused, SwarmError, Unreachable
from swarm.hypervisor.connection import Libvirt
from swarm.hypervisor.domain import Domain
from swarm.hypervisor.network import Network
from swarm.hypervisor.storage import find_pool
from swarm.inventory import EMBEDDED, Host
from swarm.plan import Change, Plan
from swarm.ssh.reasons import KeyRefused, LoginRefused
from swarm.text import amount
from swarm.vm import desired
from swarm.vm.difference import changes, pending, refuse
from swarm.vm.observe import observe
from swarm.vm.provision import SHUTDOWN, TIMEOUT, busy, console_log, wait

if TYPE_CHECKING:
    from pathlib import Path

_ANSWER = 15.0  # seconds that a guest has to log us in

__all__ = ["Status", "asleep", "console", "destroy", "need", "screenshot", "start", "status", "stop"]


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
        _rest(connection, talk)
        return True


def destroy(host: Host, talk: Talk, *, plan_only: bool = False, yes: bool = False) -> Plan:
    """Remove the VM and all that was made for it, base images excepted; return what was (or would be) removed.

    Asks first. Raise Refused if the answer is no, or for a domain that swarm did not make.
    """
    if host.hypervisor.uri == EMBEDDED and not Embedded().exists:
        return _local_rest(host, talk, plan_only=plan_only)
    with busy(host, talk), Libvirt(host.hypervisor.uri) as connection:
        plan, domain = _destruction(host, connection)
        if not plan:
            talk.done(f"{host.name}: nothing to do")
        else:
            for change in plan:
                talk.say(change.line())
            if not plan_only:
                if not yes and not talk.ask(
                    f"Delete all this? The disk of {host.name} cannot be brought back."
                ):
                    raise Refused(f"{host.name} was not destroyed", "answer y, or give --yes")
                _remove(host, connection, domain)
                left, _ = _destruction(host, connection)
                if left:
                    raise HypervisorError(
                        f"{host.name}: this could not be removed: {'; '.join(change.subject for change in left)}",
                        "run the same command again",
                    )
                talk.done(f"{host.name} is gone")
        if not plan_only:
            _rest(connection, talk)
        return plan


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
            upkeep = [change for change in changes(host, observed) if change.key not in {"start", "boot"}]
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

    target = access.target(host)
    ssh.write_config(target)
    try:
        Guest(ssh.part_path(host.name), host.name).run("true", timeout=_ANSWER)
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


def _destruction(host: Host, connection: Libvirt) -> tuple[Plan, Domain | None]:
    """What there is to remove, and the domain."""
    domain = Domain.find_by_uuid(connection, desired.domain_uuid(host))
    found: list[Change] = []
    if domain:
        found.append(Change("delete", "domain", f"{domain.name}, with NVRAM and TPM state", key="domain"))
    if pool := find_pool(connection, host.vm.disk_path.parent):
        pool.activate()
        wanted = {
            host.vm.disk_path.name: "disk",
            desired.seed_volume(host): "seed",
            desired.console_volume(host): "console log",
        }
        found += [
            Change(
                "delete", wanted[volume.name], f"{volume.path}, {amount(volume.physical)}", key=volume.name
            )
            for volume in pool.volumes()
            if volume.name in wanted
        ]
    network = Network(connection, host.hypervisor.network)
    if network.exists and (ip := network.reservation(host.vm.mac)):
        found.append(Change("delete", "reservation", f"{ip} for {host.vm.mac}", key="reservation"))
    return Plan(host.name, (*found, *_pins(host))), domain


def _pins(host: Host) -> list[Change]:
    return (
        [Change("delete", "pinned host key", str(host.known_hosts), key="pin")]
        if host.known_hosts.exists()
        else []
    )


def _remove(host: Host, connection: Libvirt, domain: Domain | None) -> None:
    if domain:
        domain.power_off()
        domain.undefine()
    if pool := find_pool(connection, host.vm.disk_path.parent):
        pool.refresh()
        for name in (host.vm.disk_path.name, desired.seed_volume(host), desired.console_volume(host)):
            pool.delete(name)
        pool.refresh()
    network = Network(connection, host.hypervisor.network)
    if network.exists:
        network.release(host.vm.mac)
    _forget(host)


def _forget(host: Host) -> None:
    """Drop the pinned key and the generated part of ssh_config."""
    host.known_hosts.unlink(missing_ok=True)
    ssh.forget(host.name)


def _local_rest(host: Host, talk: Talk, *, plan_only: bool) -> Plan:
    """Destroy where there never was a hypervisor: only a pinned key can be left."""
    plan = Plan(host.name, tuple(_pins(host)))
    if plan and not plan_only:
        _forget(host)
    talk.done(f"{host.name}: nothing to do" if not plan else f"{host.name} is gone")
    return plan


def _rest(connection: Libvirt, talk: Talk) -> None:
    if connection.rest():
        talk.say("the embedded hypervisor is stopped too, since no VM runs in it")
