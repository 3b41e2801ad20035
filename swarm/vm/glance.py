"""What `inv status` shows of a VM: its state, its acceleration, and how far it is from its host file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from swarm.errors import SwarmError
from swarm.hypervisor.domain import Domain
from swarm.vm import desired
from swarm.vm.actions import Action
from swarm.vm.difference import changes, pending
from swarm.vm.observe import Observed, observe
from swarm.vm.refusals import refuse

if TYPE_CHECKING:
    from swarm.hypervisor.connection import Libvirt
    from swarm.inventory import Host
    from swarm.vm.shared import Shared

__all__ = ["Machine", "glance"]


@dataclass(frozen=True)
class Machine:
    """A VM in a few words. A field is empty where nothing is known."""

    vm: str
    acceleration: str = ""
    drift: str = ""


def glance(host: Host, connection: Libvirt, shared: Shared | None = None) -> Machine:
    """Return the state of the host's VM. Nothing is started. Raise HypervisorError if libvirt fails."""
    if Domain.find_by_uuid(connection, desired.domain_uuid(host)) is None:
        return Machine("none")
    observed = observe(host, connection, shared)
    if observed.domain is None:  # it was removed just now
        return Machine("none")
    kind = "KVM" if observed.kind == "kvm" else "emulation"
    return Machine(observed.domain.state, kind, _drift(host, observed))


def _drift(host: Host, observed: Observed) -> str:
    try:
        refuse(host, observed)
    except SwarmError as error:
        return error.message
    upkeep = [each for each in changes(host, observed) if each.key not in {Action.START, Action.BOOT}]
    found = [f"{len(upkeep)} to change"] if upkeep else []
    found += ["waits for a restart"] if observed.domain and pending(observed.domain) else []
    return ", ".join(found) or "none"
