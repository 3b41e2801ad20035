"""`inv upgrade`: back up, install the newest versions, test every promise, and go back if one breaks.

From the backup to the last check, a note on this machine tells what to go back to. A run that finds such a note
completes that upgrade, or its way back if that had begun. So Ctrl-C and power cuts leave nothing that needs more than
the same command.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from swarm import history
from swarm.deadline import Deadline
from swarm.errors import Refused, SwarmError, explained
from swarm.fleet import parts, unfinished, verdict, wayback
from swarm.fleet.unfinished import Unfinished
from swarm.fleet.verdict import Report, Route

if TYPE_CHECKING:
    from swarm.console import Talk
    from swarm.inventory import Host
    from swarm.plan import Plan

__all__ = ["back", "upgrade"]


def upgrade(host: Host, talk: Talk, *, plan_only: bool, yes: bool, limit: float) -> Report:
    """Upgrade one host, or show what that would do. `limit` is the time for the installation, in seconds.

    Raise Refused before anything is changed, and VerificationFailed if the upgrade failed, whether or not the old
    version and state are back.
    """
    _refuse_development(host)
    with unfinished.alone(host.name):
        note = unfinished.load(host.name)
        if note and note.returning:
            talk.warn(verdict.returning(Route(note.old, note.new), note.returning))
            return _go_on_back(host, note, talk, plan_only=plan_only, yes=yes)
        return _Upgrade(host, talk, limit).run(note, plan_only=plan_only, yes=yes)


def back(host: Host, talk: Talk, *, yes: bool, of_several: bool = False) -> Report:
    """Put back what an upgrade that was interrupted, or whose way back failed, had found. Raise as upgrade() does.

    `of_several` hosts, most have nothing unfinished, which is no error then.
    """
    with unfinished.alone(host.name):
        note = unfinished.load(host.name)
        if note is None and of_several:
            talk.say("no upgrade is unfinished, nothing to do")
            return Report(host.name, changed=False, route=Route("", ""))
        _refuse_development(host)
        if note is None:
            raise Refused(
                f"{host.name}: no upgrade is unfinished, so there is nothing to go back to",
                f"./inv restore --host {host.name} --archive NAME brings an older state back",
            )
        return _go_on_back(host, note, talk, plan_only=False, yes=yes)


def _go_on_back(host: Host, note: Unfinished, talk: Talk, *, plan_only: bool, yes: bool) -> Report:
    route = Route(note.old, note.new)
    if plan_only:
        return Report(host.name, changed=True, route=route, planned=True, went_back=True)
    if not yes and not talk.ask(
        f"Put OpenClaw {note.old} and its state of {note.since}, before the upgrade, back?"
    ):
        raise Refused(f"{host.name}: nothing was changed", "--yes goes back without a question")
    _return(host, note, note.returning or "going back was asked for", talk)
    report = Report(host.name, changed=True, route=route, went_back=True)
    talk.say(report.summary)
    return report


def _refuse_development(host: Host) -> None:
    if host.openclaw.install_mode == "development":
        raise Refused(
            f"{host.name}: install_mode is development, and a git checkout has no version to go back to",
            f"./inv install --host {host.name} --upgrade, after ./inv backup --host {host.name}",
        )


def _return(host: Host, note: Unfinished, why: str, talk: Talk) -> None:
    """Go back. Raise VerificationFailed if that fails; the note stays then, for --back or another attempt."""
    route, start = Route(note.old, note.new), time.monotonic()
    unfinished.save(host.name, replace(note, returning=why))
    try:
        wayback.go_back(host, note, talk)
    except KeyboardInterrupt:
        talk.warn(verdict.interrupted_back(host.name, route))
        raise
    except wayback.Stopped as stopped:
        unfinished.save(
            host.name, replace(note, returning="")
        )  # it may never work; the way forward stays open
        _remember(host, route, "stuck", start)
        raise verdict.stuck(host.name, route, why, stopped.phase, stopped.error) from stopped.error
    unfinished.clear(host.name)
    _remember(host, route, "went back", start)


def _remember(host: Host, route: Route, result: str, start: float) -> None:
    took = round(time.monotonic() - start, 3)
    values: dict[str, Any] = {"from": route.old, "to": route.new, "result": result, "took": took}
    history.append(host.name, "upgrade", **values)


class _Upgrade:
    """One upgrade of one host."""

    def __init__(self, host: Host, talk: Talk, limit: float) -> None:
        self.host, self.talk, self.limit = host, talk, limit

    def run(self, earlier: Unfinished | None, *, plan_only: bool, yes: bool) -> Report:
        """Upgrade, or complete the `earlier` upgrade."""
        installed, record = parts.versions(self.host, self.talk)
        if not installed and not earlier:
            raise Refused(
                f"{self.host.name}: OpenClaw is not installed, or does not say its version",
                f"./inv install --host {self.host.name}",
            )
        plan = self._install(plan_only=True)
        route = Route(earlier.old, earlier.new) if earlier else verdict.route(installed, record, plan)
        if not plan and not earlier:
            return Report(self.host.name, changed=False, route=route)
        since = earlier.since if earlier else ""
        if earlier:
            self.talk.warn(
                f"an upgrade {route} was interrupted; this completes it, with the backup of {since}"
            )
        before = earlier.broken if earlier else self._broken_before(route)
        changes = tuple(change.line() for change in plan)
        self.talk.say(f"OpenClaw: {route}" if route.old != route.new else f"OpenClaw stays at {route.old}")
        self.talk.say(verdict.promise(route, since))
        if plan_only:
            return Report(self.host.name, True, route, changes, before, planned=True)  # noqa: FBT003
        if not yes and not self.talk.ask(verdict.question(route, since)):
            raise Refused(f"{self.host.name}: nothing was changed", "--yes upgrades without a question")
        start = time.monotonic()
        note = earlier or self._noted(route, record, before)
        self._carry_out(note)
        unfinished.clear(self.host.name)
        _remember(self.host, route, "upgraded", start)
        report = Report(self.host.name, True, route, changes, before)  # noqa: FBT003
        self.talk.done(report.summary, time.monotonic() - start)
        return report

    def _install(self, *, plan_only: bool) -> Plan:
        deadline = None if plan_only else Deadline(self.limit)
        with parts.connect(self.host) as guest:
            return parts.installing_all(
                self.host, guest.link, self.talk, plan_only=plan_only, upgrade=True, deadline=deadline
            )

    def _broken_before(self, route: Route) -> tuple[str, ...]:
        """Return the promises that are broken already. They do not count against the upgrade."""
        found = self._broken(wayback.pinned(self.host, route.old), ())
        for text in found:
            self.talk.warn(f"broken already, so it does not count: {text}")
        return found

    def _broken(self, host: Host, before: tuple[str, ...]) -> tuple[str, ...]:
        from swarm.guest.verify import verify

        with self.talk.step("test every promise"):
            checks = verify(parts.connect(host), parts.expected(host), self.talk).checks
        return verdict.newly_broken(before, checks)

    def _noted(self, route: Route, record: str, before: tuple[str, ...]) -> Unfinished:
        """Back up, and note what to go back to. Raise Refused if the backup fails."""
        from swarm.backup.now import back_up
        from swarm.backup.record import load

        name = self.host.name
        try:
            report = back_up(parts.source(self.host, parts.link(self.host)), self.host.backup, self.talk)
        except KeyboardInterrupt:
            self.talk.warn("interrupted during the backup; nothing was upgraded")
            raise
        except SwarmError as error:
            raise Refused(
                f"{name}: the backup failed, so nothing was upgraded: {error.message}", error.hint
            ) from error
        if report.errors:
            raise Refused(
                f"{name}: the backup failed, so nothing was upgraded: {report.errors[0]}",
                f"./inv backup --host {name} shows more",
            )
        self.talk.done(f"backup: {report.summary}")
        archive = report.archive or report.current or ""
        note = Unfinished(route.old, route.new, record, archive, load(name).started, before)
        unfinished.save(name, note)
        return note

    def _carry_out(self, note: Unfinished) -> None:
        """Install and test. Go back, and raise VerificationFailed, if either fails."""
        route = Route(note.old, note.new)
        try:
            why = self._attempt(note)
        except KeyboardInterrupt:
            self.talk.warn(verdict.interrupted(self.host.name, route))
            raise
        if not why:
            return
        self.talk.warn(f"the upgrade failed, so the old version and state are put back: {why}")
        _return(self.host, note, why, self.talk)
        raise verdict.outcome(self.host.name, route, why, self.host.openclaw.version)

    def _attempt(self, note: Unfinished) -> str:
        """Install and test. Return why that failed, or nothing."""
        try:
            self._install(plan_only=False)
            worse = self._broken(self.host, note.broken)
        except Exception as error:  # noqa: BLE001 - whatever it is, the way back must begin
            return verdict.cause(self.host.name, explained(error))
        return verdict.reason(worse) if worse else ""
