"""`inv hook.deploy` and `inv hook.test`: put the hook into a guest, and prove that its events arrive.

    files, .env, openclaw.json ─► restart, events led to a receiver here ─► both halves seen ─► restart, own endpoint

The receiver is reached through a port that the kept SSH connection forwards, so no firewall is in the way. What it saw
is sent on to the hook's own endpoint afterwards: the proof takes no event away.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from swarm.agentmon.hook import SUBJECT, gateway, hook_files, restored, steps, variables
from swarm.agentmon.receiver import Receiver
from swarm.agentmon.view import HEADER, line
from swarm.console import Talk, escape
from swarm.errors import Refused, SwarmError, VerificationFailed
from swarm.guest.engine.converge import converge
from swarm.guest.engine.script import as_user, prelude
from swarm.ssh.forward import reverse
from swarm.text import quote

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
_SILENCE = 60.0  # seconds without a further event
_MOST = 600.0  # seconds for all events that wait in the spool before the new ones
_KEPT = 2_000  # events; beyond that the receiver takes no more, and they stay in the guest's spool


@dataclass
class Seen:
    """The events that arrived, and which halves of the restarted gateway they come from."""

    since: float
    events: list[Event] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    halves: set[str] = field(default_factory=set)

    def add(self, event: Event) -> None:
        """Take an event. Older ones come from the spool, and prove nothing about the restarted gateway."""
        self.events.append(event)
        if event.time.timestamp() >= self.since:
            name = event.payload.get("name")
            self.halves |= {half for half, own in _HALVES.items() if own == name}

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
        """1 unless both halves were seen."""
        return int(not self.seen.complete)

    @property
    def summary(self) -> str:
        """The result in a few words."""
        missing = sorted(set(_HALVES) - self.seen.halves)
        words = f"{len(self.seen.events)} events arrived"
        return words if not missing else f"{words}, none of the {' and the '.join(missing)}"

    def lines(self) -> list[str]:
        """Return a table of the events, as markup."""
        return [f"[bold]{HEADER}[/]", *(escape(line(event)) for event in self.seen.events)]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {
            "halves": {half: half in self.seen.halves for half in _HALVES},
            "events": [dict(event.data) for event in self.seen.events],
            "refused": self.seen.refused,
            "ok": self.seen.complete,
        }


def deploy(guest: Guest, host: Host, talk: Talk, *, plan_only: bool = False) -> Plan:
    """Bring the hook in a guest to the wanted state. Return the changes that were made, or would be.

    If anything changed, the gateway is restarted, and an event of each half must arrive. Raise Refused before anything
    is changed, VerificationFailed if no event arrives; the next run then proves it again.
    """
    files, wanted = hook_files(), variables(section(host), host.name)
    if plan_only:
        return converge(guest, steps(host.openclaw, wanted, files, 0), talk, plan_only=True)
    with _tap(guest) as (receiver, port, since):
        todo = steps(host.openclaw, wanted, files, port)
        plan, seen = _proof(guest, host.openclaw, files, todo, receiver, since, talk)
    if seen and not seen.complete:
        raise _failure(host.name, seen)
    return plan


def prove(guest: Guest, host: Host, talk: Talk) -> Report:
    """Restart the gateway with its events led here, and report what arrives. Raise Refused if nothing is deployed."""
    section(host)
    files, start = hook_files(), time.monotonic()
    folder = f"{host.openclaw.config_dir}/hooks/agentmon"
    if not guest.run(f"test -e {quote(f'{folder}/HOOK.md')}", hide=True, warn=True).ok:
        raise Refused(f"{host.name}: the hook is not deployed", f"./inv hook.deploy --host {host.name}")
    with _tap(guest) as (receiver, port, since):
        todo = [gateway(host.openclaw, files, port, force=True)]
        _, seen = _proof(guest, host.openclaw, files, todo, receiver, since, talk)
    return Report(seen or Seen(since), time.monotonic() - start)


def section(host: Host) -> AgentmonSettings:
    """Return the section agentmon of a host file. Raise Refused if there is none."""
    if host.agentmon is None:
        raise Refused(
            f"{host.name}: its host file has no section agentmon",
            "add it: agentmon: {url: http://ADDRESS:8080}",
        )
    return host.agentmon


@contextlib.contextmanager
def _tap(guest: Guest) -> Iterator[tuple[Receiver, int, float]]:
    """Give a receiver, the guest's port that leads to it, and the guest's time now."""
    since = float(guest.check("date +%s.%N", "reading the guest's clock").strip()[:32])
    with Receiver() as receiver, reverse(guest.link, receiver.port) as port:
        yield receiver, port, since


def _proof(
    guest: Guest,
    openclaw: InstallSettings,
    files: Mapping[str, str],
    todo: list[Step],
    receiver: Receiver,
    since: float,
    talk: Talk,
) -> tuple[Plan, Seen | None]:
    """Apply steps of which the last leads events here. Return the changes, and what arrived if anything changed."""
    seen, silent = Seen(since), Talk(talk.screen, talk.host, quiet=True)
    with _reading(receiver, seen) as wait:
        try:
            plan = converge(guest, todo, talk)
            tapped = any(change.subject == SUBJECT for change in plan)
            if tapped:
                with talk.step("wait for an event of the hook and of the plugin", silent=True):
                    wait()
        finally:
            # Also after a failure or Ctrl-C: the gateway must not be left without its endpoint.
            converge(guest, [restored(openclaw, files, proved=seen.complete)], silent)
    if seen.events:
        _send_on(guest, openclaw, seen.events, talk)
    return plan, seen if tapped else None


@contextlib.contextmanager
def _reading(receiver: Receiver, seen: Seen) -> Iterator[Callable[[], None]]:
    """Collect events during the block. Give a function that waits for both halves, or until nothing more comes."""
    over, last = threading.Event(), [time.monotonic()]

    def read() -> None:
        while not over.is_set() and not seen.complete and len(seen.events) < _KEPT:
            with receiver.take(0.2) as delivery:
                if delivery:
                    last[0] = time.monotonic()
                    for event in delivery.events:
                        seen.add(event)
                    seen.refused += [delivery.problem] if delivery.problem else []
        receiver.refuse()  # what comes now stays in the guest's spool

    def wait() -> None:
        begun = last[0] = time.monotonic()
        while reader.is_alive() and time.monotonic() < min(begun + _MOST, last[0] + _SILENCE):
            reader.join(0.1)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield wait
    finally:
        over.set()
        reader.join()


def _send_on(guest: Guest, openclaw: InstallSettings, events: list[Event], talk: Talk) -> None:
    """Send the events of the proof to the hook's own endpoint, from the guest, with the hook's own settings."""
    folder = f"{openclaw.config_dir}/hooks/agentmon"
    program = f"""
process.loadEnvFile({json.dumps(f"{openclaw.config_dir}/.env")});
const {{ configure }} = await import({json.dumps(f"{folder}/lib/config.ts")});
const config = configure(process.env);
const events = {json.dumps([event.data for event in events])};
for (const event of events) {{
  const body = JSON.stringify(config.batch === "array" ? [event] : event);
  const headers = {{ ...config.headers, "content-type": "application/json" }};
  const signal = AbortSignal.timeout(10000);
  const answer = await fetch(config.url, {{ method: "POST", body, headers, signal, redirect: "manual" }});
  if (!answer.ok) throw new Error(`answer ${{answer.status}}`);
}}
"""
    run = f"printf '%s' {quote(program)} | node --input-type=module -"
    script = f'swarm_prelude={quote(prelude())}\neval "$swarm_prelude"\n{as_user(openclaw.user, run)}'
    try:
        guest.check(script, "sending the events of the proof to the endpoint", timeout=120)
    except SwarmError:
        talk.warn(f"{len(events)} events of the proof did not reach the endpoint, which did not accept them")


def _failure(host: str, seen: Seen) -> VerificationFailed:
    missing = " and the ".join(sorted(set(_HALVES) - seen.halves))
    message = f"{host}: the gateway restarted, but no event of the {missing} arrived"
    if seen.refused:
        message += f"; refused: {seen.refused[0]}"
    return VerificationFailed(
        message, f"./inv ssh --host {host} --user openclaw -- journalctl --user -n 50 -u openclaw-gateway"
    )
