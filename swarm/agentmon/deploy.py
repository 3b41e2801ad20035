"""`inv hook.deploy` and `inv hook.test`: put the hook into a guest, and prove that its events arrive.

    files, .env, openclaw.json ─► restart, events led to a receiver here ─► both halves seen ─► own endpoint again

The receiver is reached through a port that the kept SSH connection forwards, so no firewall is in the way. What it saw
goes back into the guest's spool (captured.py), and the hook sends it to its endpoint: the proof takes no event away.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from swarm.agentmon.captured import MOST, Captured, alone
from swarm.agentmon.endpoint import rejection
from swarm.agentmon.hook import READS_TAP, SUBJECT, gateway, hook_files, restored, steps, variables
from swarm.agentmon.receiver import Receiver
from swarm.agentmon.view import HEADER, line
from swarm.console import Talk, escape
from swarm.errors import CommandFailed, Refused, SwarmError, VerificationFailed, explained
from swarm.guest.engine.converge import converge
from swarm.paths import state_dir
from swarm.reconcile import show
from swarm.ssh.forward import reverse
from swarm.text import quote, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from swarm.agentmon.envelope import Event
    from swarm.guest.engine.step import Step
    from swarm.inventory import AgentmonSettings, Host, InstallSettings
    from swarm.plan import Plan
    from swarm.ssh.guest import Guest

__all__ = ["Report", "deploy", "prove", "section"]

# What each half sends when the gateway has started (hooks/agentmon/lib/mapping.ts).
_HALVES = {"hook": "gateway.startup", "plugin": "gateway.start"}
_SILENCE = 60.0  # seconds after the last event of the spool; the new ones come within seconds
_MOST = 600.0  # seconds for all events that wait in the spool before the new ones
_LOOK = 30.0  # seconds for a command that only looks; an emulated guest needs ten to start it
_SHOWN = 100  # reasons of refused requests; a guest may send any number of them
_KEPT = 2_000  # events; beyond that the receiver takes no more, and they stay in the guest's spool


@dataclass
class Seen:
    """The events that arrived, and which halves of the restarted gateway they come from."""

    since: float
    captured: Captured
    events: list[Event] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    rejected: VerificationFailed | None = None  # the guest's own endpoint does not take events
    halves: set[str] = field(default_factory=set)
    unkept: OSError | SwarmError | None = None  # why no more could be kept on disk

    def keep(self, events: list[Event]) -> bool:
        """Take events, and keep them on disk. Return whether they come from the spool, so that newer ones may follow.

        Those prove nothing about the restarted gateway.
        """
        self.captured.keep(events)
        self.events += events
        new = [event.payload.get("name") for event in events if event.time.timestamp() >= self.since]
        self.halves |= {half for half, own in _HALVES.items() if own in new}
        return len(new) < len(events)

    @property
    def full(self) -> bool:
        """Whether no more is taken: further events stay in the guest's spool."""
        return len(self.events) >= _KEPT or self.captured.size >= MOST

    @property
    def complete(self) -> bool:
        """Whether both halves were seen."""
        return self.halves == set(_HALVES)


@dataclass(frozen=True)
class Report:
    """What `inv hook.test` found on one host."""

    seen: Seen
    took: float
    changed: bool = False

    @property
    def exit_code(self) -> int:
        """1 unless both halves were seen, and the endpoint takes events."""
        return int(not self.seen.complete or self.seen.rejected is not None)

    @property
    def summary(self) -> str:
        """The result in a few words."""
        missing = sorted(set(_HALVES) - self.seen.halves)
        words = f"{len(self.seen.events)} events arrived"
        words += f", none of the {' and the '.join(missing)}" if missing else ""
        return words if self.seen.rejected is None else f"{words}; {self.seen.rejected.message}"

    def lines(self) -> list[str]:
        """Return a table of the events, as markup."""
        return [f"[bold]{HEADER}[/]", *(escape(line(event)) for event in self.seen.events)]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {
            "halves": {half: half in self.seen.halves for half in _HALVES},
            "events": [dict(event.data) for event in self.seen.events],
            "refused": self.seen.refused,
            "endpoint": self.seen.rejected.message if self.seen.rejected else None,
            "ok": not self.exit_code,
        }


def deploy(
    guest: Guest,
    host: Host,
    talk: Talk,
    *,
    plan_only: bool = False,
    tell: bool = True,
    silence: float = _SILENCE,
) -> Plan:
    """Bring the hook in a guest to the wanted state. Return the changes that were made, or would be.

    If anything changed, the gateway is restarted, and an event of each half must arrive within `silence` seconds of the
    spool's last one. Without `tell`, nothing is said if there is nothing to do. Raise Refused before anything is
    changed, VerificationFailed if no event arrives, or if the endpoint refuses them; the next run then proves it again.
    """
    files, wanted = hook_files(), variables(section(host), host.name)
    silent = Talk(talk.screen, talk.host, quiet=True)
    with contextlib.nullcontext() if plan_only else alone(host.name, talk):
        pending = converge(guest, steps(host.openclaw, wanted, files, 0), silent, plan_only=True)
        if plan_only or not (pending or Captured(host.name).size):
            if pending or tell:
                show(pending, talk)
            return pending
        with _tap(guest, host) as (receiver, port, seen):
            todo = steps(host.openclaw, wanted, files, port)
            plan, tapped = _proof(guest, host.openclaw, files, todo, receiver, seen, talk, silence)
    if tapped and not seen.complete:
        raise _failure(host.name, seen)
    if seen.rejected:
        raise seen.rejected
    return plan


def prove(guest: Guest, host: Host, talk: Talk) -> Report:
    """Restart the gateway with its events led here, and report what arrives. Raise Refused if nothing is deployed."""
    section(host)
    files, start = hook_files(), time.monotonic()
    path = f"{host.openclaw.config_dir}/hooks/agentmon/{READS_TAP}"
    if not guest.run(f"test -e {quote(path)}", hide=True, warn=True, timeout=_LOOK).ok:
        raise Refused(
            f"{host.name}: the hook is not deployed, or is of an earlier version",
            f"./inv hook.deploy --host {host.name}",
        )
    with alone(host.name, talk), _tap(guest, host) as (receiver, port, seen):
        todo = [gateway(host.openclaw, files, port, force=True)]
        _proof(guest, host.openclaw, files, todo, receiver, seen, talk, _SILENCE)
    return Report(seen, time.monotonic() - start)


def section(host: Host) -> AgentmonSettings:
    """Return the section agentmon of a host file. Raise Refused if there is none."""
    if host.agentmon is None:
        raise Refused(
            f"{host.name}: its host file has no section agentmon",
            "add it: agentmon: {url: http://ADDRESS:8080}",
        )
    return host.agentmon


@contextlib.contextmanager
def _tap(guest: Guest, host: Host) -> Iterator[tuple[Receiver, int, Seen]]:
    """Give a receiver, the guest's port that leads to it, and what collects its events from the guest's time on."""
    since = _clock(guest)
    captured = Captured(host.name)
    if captured.size:
        captured.put_back(guest, host.openclaw)  # an earlier proof was cut off
    with Receiver() as receiver, reverse(guest.link, receiver.port) as port:
        yield receiver, port, Seen(since, captured)


def _clock(guest: Guest) -> float:
    text = guest.check("date +%s.%N", "reading the guest's clock", timeout=_LOOK).strip()[:32]
    try:
        return float(text)
    except ValueError:
        raise CommandFailed(f"{guest.alias}: the guest's clock says {visible(text)!r}") from None


def _proof(
    guest: Guest,
    openclaw: InstallSettings,
    files: Mapping[str, str],
    todo: list[Step],
    receiver: Receiver,
    seen: Seen,
    talk: Talk,
    silence: float,
) -> tuple[Plan, bool]:
    """Apply steps of which the last leads events here. Return the changes, and whether events were led here."""
    silent, proved = Talk(talk.screen, talk.host, quiet=True), False
    try:
        with _reading(receiver, seen, silence) as wait:
            plan = converge(guest, todo, talk)
            tapped = any(change.subject == SUBJECT for change in plan)
            if tapped:
                with talk.step("wait for an event of the hook and of the plugin", silent=True):
                    wait()
        if seen.unkept:
            reason = explained(seen.unkept).message
            raise CommandFailed(
                f"{guest.alias}: the hook's events could not be kept on this computer: {reason}",
                f"correct that, such as by freeing space in {state_dir()}; the events wait in the guest",
            )
        if seen.events:
            seen.rejected = rejection(guest, openclaw, seen.events, talk)
        proved = seen.complete and not seen.rejected
    finally:
        # Also after a failure or Ctrl-C: the events must not be left without their endpoint.
        _back(guest, openclaw, seen, talk)
        converge(guest, [restored(openclaw, files, proved=proved)], silent)
    return plan, tapped


def _back(guest: Guest, openclaw: InstallSettings, seen: Seen, talk: Talk) -> None:
    """Put what arrived back into the spool, which the hook takes over when events are no longer led here."""
    try:
        if seen.captured.size:
            seen.captured.put_back(guest, openclaw)
    except SwarmError as error:
        talk.warn(
            f"{len(seen.events)} events wait on this computer for the next hook.deploy: {error.message}"
        )


@contextlib.contextmanager
def _reading(receiver: Receiver, seen: Seen, silence: float) -> Iterator[Callable[[], None]]:
    """Collect events during the block. Give a function that waits for both halves, or until neither can be expected.

    New events alone do not prolong the wait: the hook sends one about itself each minute.
    """
    over, last = threading.Event(), [time.monotonic()]

    def read() -> None:
        try:
            while not over.is_set() and not seen.complete and not seen.full:
                with receiver.take(0.2) as delivery:
                    if delivery:
                        if seen.keep(delivery.events):
                            last[0] = time.monotonic()
                        if delivery.problem and len(seen.refused) < _SHOWN:
                            seen.refused.append(delivery.problem)
        except (
            OSError,
            SwarmError,
        ) as error:  # such as a full disk: the sender is answered that it must keep them
            seen.unkept = error
        receiver.refuse()  # what comes now stays in the guest's spool

    def wait() -> None:
        begun = last[0] = time.monotonic()
        while reader.is_alive() and time.monotonic() < min(begun + _MOST, last[0] + silence):
            reader.join(0.1)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield wait
    finally:
        over.set()
        reader.join()


def _failure(host: str, seen: Seen) -> VerificationFailed:
    missing = " and the ".join(sorted(set(_HALVES) - seen.halves))
    message = f"{host}: the gateway restarted, but no event of the {missing} arrived"
    if seen.refused:
        message += f"; refused: {seen.refused[0]}"
    return VerificationFailed(
        message, f"./inv ssh --host {host} --user openclaw -- journalctl --user -n 50 -u openclaw-gateway"
    )
