"""Gather the status of hosts: from their hypervisors, their guests, this machine's records and its timers.

Hosts are looked at side by side. What several of them share is done once: a hypervisor is connected to by the first
host that needs it, and one that does not answer keeps all its hosts waiting for the same few seconds.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from typing import TYPE_CHECKING, NamedTuple, Self

from swarm import access, history
from swarm.backup import health, record
from swarm.deadline import Deadline
from swarm.embedded import Embedded
from swarm.errors import CommandFailed, HypervisorError, SwarmError, Unreachable
from swarm.fleet import guest
from swarm.fleet.status import FOREIGN, Archives, Inside, Status
from swarm.hypervisor.uri import ANSWER
from swarm.inventory import EMBEDDED, Host
from swarm.ssh.reasons import KeyRefused, LoginRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from swarm.hypervisor.connection import Libvirt
    from swarm.timers import Timer
    from swarm.vm.glance import Machine
    from swarm.vm.shared import Shared

__all__ = ["Gatherer", "archives", "remember", "timers_of"]


class _Hypervisor(NamedTuple):
    connection: Libvirt
    shared: Shared


class Gatherer:
    """Looks at hosts. Use it as a context manager: it ends the connections to hypervisors.

    With `keep`, the connections to guests are kept, for the next look in a few seconds.
    """

    def __init__(
        self, timers: Future[Mapping[str, tuple[Timer, ...]] | None] | None = None, *, keep: bool = False
    ) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._opened: dict[str, tuple[Future[_Hypervisor], Deadline]] = {}
        self._timers = timers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in [future for future, _ in self._opened.values()]:
            if each.done() and not each.exception():
                each.result().connection.__exit__(None, None, None)

    def look(self, host: Host, now: float) -> Status:
        """Return the status of a host at the moment `now`. Raise HypervisorError or Unfit without its hypervisor."""
        own = archives(host.name, now)
        machine = self._machine(host)
        ssh, inside = _ssh(host, keep=self._keep) if machine.vm in {"running", FOREIGN} else ("", Inside())
        timers = self._timers.result() if self._timers else None
        return Status(
            host=host.name,
            vm=machine.vm,
            acceleration=machine.acceleration,
            ip=host.address,
            ssh=ssh,
            drift=machine.drift,
            backup=own.summary,
            pinned=host.known_hosts.exists(),
            inside=inside,
            archives=own,
            timers=None if timers is None else timers.get(host.name, ()),
        )

    def _machine(self, host: Host) -> Machine:
        """Return the state of the VM. Nothing is started: without its embedded hypervisor, a VM is stopped."""
        from swarm.vm.glance import Machine, glance

        if host.foreign:
            return Machine(FOREIGN)
        if host.hypervisor.uri == EMBEDDED and not (embedded := Embedded()).running:
            # The key is pinned before the first boot, and destroy removes it.
            return Machine("stopped" if embedded.exists and host.known_hosts.exists() else "none")
        hypervisor = self._hypervisor(host.hypervisor.uri)
        return glance(host, hypervisor.connection, hypervisor.shared)

    def _hypervisor(self, uri: str) -> _Hypervisor:
        with self._lock:
            if first := uri not in self._opened:
                self._opened[uri] = Future(), Deadline(ANSWER)
            future, deadline = self._opened[uri]
        if first:
            threading.Thread(target=_open, args=(uri, future), daemon=True).start()
        try:
            return future.result(deadline.remaining)  # for the last of many hosts, the time is up already
        except Late:
            raise HypervisorError(
                f"connecting to {uri} failed: no answer for {ANSWER:.0f} s", "is the hypervisor running?"
            ) from None


def _open(uri: str, future: Future[_Hypervisor]) -> None:
    try:
        from swarm.hypervisor.connection import Libvirt
        from swarm.vm.remote import ask
        from swarm.vm.shared import Shared

        asked = ask(uri)
        connection = Libvirt(uri)
        future.set_result(_Hypervisor(connection, Shared(connection, asked)))
    except BaseException as error:  # noqa: BLE001 - raised again in every thread that waits for it
        future.set_exception(error)


def _ssh(host: Host, *, keep: bool) -> tuple[str, Inside]:
    """Return how the login went, in a word or two, and what the guest said."""
    if not host.known_hosts.exists():
        return "no pinned key", Inside()
    try:
        spool = host.agentmon is not None
        found = guest.look(access.reach(host), host.name, host.openclaw, spool=spool, keep=keep)
    except KeyRefused:
        return "other host key", Inside()
    except LoginRefused:
        return "login refused", Inside()
    except (CommandFailed, Unreachable):
        return "no answer", Inside()
    return "ok", found


def archives(host: str, now: float) -> Archives:
    """Return what this machine remembers about a host's backups. A damaged record becomes a word with ✗."""
    try:
        found = record.load(host)
        return _archives(host, found, now)
    except SwarmError as error:
        return Archives(summary=f"✗ {error.message}", backup=f"✗ {error.message}", trouble=error)


def _archives(host: str, found: record.Record, now: float) -> Archives:
    levels = set(found.archives.get(found.archive, {}).get("verified", {}).values())
    drilled, result = _number(found.drill.get("ended")), str(found.drill.get("result") or "")
    earlier = [each["at"] for each in history.entries(host, "drill") if each.get("result") == "success"]
    return Archives(
        summary=health.health(found, now),
        backup=health.of_backup(found, now),
        drill=health.of_drill(found, now),
        result=found.result or "",
        ended=found.ended,
        succeeded=found.succeeded,
        stored=found.stored,
        verified=_level(levels),
        drill_result=result,
        drill_ended=drilled,
        drill_succeeded=drilled if result == "success" else float(max(earlier, default=0)),
    )


def _level(levels: set[object]) -> str:
    """Return how far all copies of an archive were verified, or '' if none was."""
    if levels == {"content"}:
        return "content"
    return "ciphertext" if levels else ""


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def timers_of(names: Sequence[str]) -> Future[Mapping[str, tuple[Timer, ...]] | None]:
    """Start to ask systemd for the timers of hosts, with one call for all. None stands for a machine without them."""
    future: Future[Mapping[str, tuple[Timer, ...]] | None] = Future()

    def ask() -> None:
        from swarm import timers

        found: dict[str, tuple[Timer, ...]] = {}
        try:
            for each in timers.status(names):
                found[each.host] = (*found.get(each.host, ()), each)
            future.set_result(found)
        except SwarmError:
            future.set_result(None)
        except BaseException as error:  # noqa: BLE001 - raised again in every thread that waits for it
            future.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    return future


def remember(status: Status, now: float, *, well: bool) -> None:
    """Add this look to the host's history, at most once an hour."""
    if history.recently(status.host, "health", history.HOUR, now):
        return
    ratio = status.inside.ratio
    history.append(
        status.host,
        "health",
        at=now,
        ok=well,
        vm=status.vm,
        ssh=status.ssh,
        gateway=status.inside.gateway,
        disk=None if ratio is None else round(ratio, 4),
    )
