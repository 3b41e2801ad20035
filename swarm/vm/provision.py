"""Bring a VM to the state that its host file describes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from swarm import access, history, ssh
from swarm.deadline import Deadline
from swarm.hypervisor.connection import ANSWER, Libvirt
from swarm.inventory import names
from swarm.reconcile import Applied, reconcile
from swarm.text import seconds
from swarm.vm import foreign
from swarm.vm.actions import Action, Work
from swarm.vm.busy import busy
from swarm.vm.difference import make_plan, pending, unreached
from swarm.vm.observe import Observed, observe
from swarm.vm.ready import TIMEOUT
from swarm.vm.remote import ask
from swarm.vm.shared import Shared

if TYPE_CHECKING:
    from collections.abc import Callable

    from swarm.console import Talk
    from swarm.inventory import Host
    from swarm.plan import Plan

__all__ = ["TIMEOUT", "provision"]


def provision(
    host: Host,
    talk: Talk,
    *,
    plan_only: bool = False,
    restart: bool = False,
    limit: float = TIMEOUT,
    anew: Callable[[], None] | None = None,
) -> Plan:
    """Bring the VM of `host` to what its file says, and return what was (or, with `plan_only`, would be) changed.

    `limit` is in seconds, for all waiting together. `anew` is called before a VM is made. A second call changes
    nothing. A machine that swarm did not make has no VM: its host key is pinned. Raise a SwarmError.
    """
    if host.foreign:
        return foreign.provision(host, talk, plan_only=plan_only, limit=limit)
    start = time.monotonic()
    uri = host.hypervisor.uri
    answer = ANSWER if plan_only else None  # a plan may be for many hosts of a hypervisor that is off
    asked = ask(uri, [host])  # answers while libvirt connects
    with busy(host, talk), Libvirt(uri, limit=answer) as connection:

        def apply(plan: Plan, observed: Observed) -> Applied[Observed]:
            _warn(observed, connection, talk)
            if anew and any(change.key == Action.DISK for change in plan):
                anew()
            work = Work(host, connection, talk, observed, Deadline(limit))
            for action in Action.of(plan):
                action.apply(work)
            return Applied(plan)

        def look() -> Observed:
            observed = observe(host, connection, Shared(connection, asked))
            if observed.domain and not restart and (waiting := pending(observed.domain)):
                talk.warn(f"{', '.join(waiting)}: waits for the VM's next start; --restart does it now")
            return observed

        plan = reconcile(
            look, lambda seen: make_plan(host, seen, restart=restart), apply, talk, plan_only=plan_only
        )
    if plan and not plan_only:
        ssh.write_config(access.target(host))
        took = time.monotonic() - start
        login = ""
        if host.name in names():  # a throwaway VM has no file
            login = f": ./inv ssh --host {host.name}"
            changes = len(tuple(plan))
            history.append(host.name, "provision", seconds=round(took, 3), changes=changes, hypervisor=uri)
        if unreached(plan):
            again = f"./inv stop --host {host.name}, then ./inv start --host {host.name}"
            talk.warn(f"{host.name} is reached at {host.vm.ip} from its next start on: {again}")
            return plan
        talk.done(f"{host.name} is ready at {host.vm.ip} ({seconds(took)}){login}")
    return plan


def _warn(observed: Observed, connection: Libvirt, talk: Talk) -> None:
    """Say what the user should expect of a VM that is about to be made or changed."""
    if observed.filter.doubt:
        talk.warn(
            f"the hypervisor's own addresses are not known ({observed.filter.doubt}), so the guest may reach its "
            "services on a public one"
        )
    if observed.domain is None and observed.kind == "qemu":
        talk.warn("KVM does not work here, so the VM is emulated: a boot takes minutes, not seconds")
    if connection.embedded and (reason := connection.embedded.no_way_out):
        talk.warn(f"the VM will have no network outside the hypervisor: {reason}")
