"""`inv backup`: refresh a host's mirror, archive it, read the archive back, and only then remove old ones."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from swarm.backup import record
from swarm.backup.busy import hold_host
from swarm.backup.early import failed_early
from swarm.backup.manifest import Manifest
from swarm.backup.mirror import Known, Source, refresh
from swarm.backup.monitor import Monitor
from swarm.backup.naming import parse
from swarm.backup.owners import Owners
from swarm.backup.removal import prune
from swarm.backup.report import Report
from swarm.backup.repository import open_destinations
from swarm.backup.retention import ahead
from swarm.backup.store import Place, free_name, policy, store, verify
from swarm.errors import SwarmError, explained
from swarm.files import private_dir
from swarm.paths import mirrors_dir

if TYPE_CHECKING:
    from collections.abc import Callable

    from swarm.backup.archive import Packed
    from swarm.backup.manifest import Summary
    from swarm.backup.mirror import Refreshed
    from swarm.backup.naming import Name
    from swarm.backup.record import Record
    from swarm.console import Talk
    from swarm.inventory import BackupSettings
    from swarm.locks import Lock

__all__ = ["Report", "back_up"]


def back_up(
    source: Source, settings: BackupSettings, talk: Talk, *, plan_only: bool = False, force: bool = False
) -> Report:
    """Back one host up. With `plan_only`, only show what the mirror would gain and lose.

    `force` accepts losses that the guards would refuse. Raise Refused, Unreachable, CommandFailed or Unfit if there is
    no good mirror; then no archive is made and none is removed. What fails at one destination stands in the report.
    """
    try:
        with hold_host(source.host) as lock:
            try:
                run = _Run(source, settings, talk, lock)
            except Exception as error:
                if not plan_only:
                    failed_early(source.host, settings, error, talk, locked=True)
                raise
            return run.plan(force=force) if plan_only else run.carry_out(force=force)
    finally:
        source.link.give_up()  # a connection that began, and was not needed


class _Run:
    """One run for one host, while the host's lock is held."""

    def __init__(self, source: Source, settings: BackupSettings, talk: Talk, lock: Lock) -> None:
        self.source, self.settings, self.talk, self.lock = source, settings, talk, lock
        self.host = source.host
        self.record: Record = record.load(self.host)
        self.mirror = private_dir(mirrors_dir()) / self.host
        self.monitor = Monitor(self.host, settings, talk)
        self.places: list[Place] = []

    def plan(self, *, force: bool) -> Report:
        """Show what the mirror would gain and lose."""
        done = self._refresh(plan_only=True, force=force)
        for line in (*done.plan, *done.notes, *(f"would be lost: {loss}" for loss in done.losses)):
            self.talk.say(line)
        report = Report(self.host, changes=len(done.plan), notes=tuple(done.notes))
        self.talk.say(report.summary)
        return report

    def carry_out(self, *, force: bool) -> Report:
        """Run the backup between the user's commands and pings, and record how it went."""
        self.record.started = time.time()
        try:
            self.monitor.start()
            report = self._archive(self._mirrored(force=force))
            self._save()  # the user's commands may take long, and be killed
        except BaseException as error:
            self._failed(error)
            raise
        report = self._after(report)
        first = report.errors[0] if report.errors else ""
        if first:
            self.monitor.on_error(first)
        self._finish(report.result, first or report.summary)
        return report

    def _mirrored(self, *, force: bool) -> Refreshed:
        was_dirty = self.record.dirty
        with ThreadPoolExecutor(1) as pool:
            opening = pool.submit(self._open)  # loading boto3 takes half a second, and so does the scan
            if not was_dirty:
                self._save(dirty=True)
            done = self._refresh(plan_only=False, force=force)
            self.places = opening.result()
        # rsync copies no owners and not every mode, so it does not see that one has changed.
        self.record.dirty = was_dirty or done.changed or owners_of(self.record) != done.owners
        self.record.owners = asdict(done.owners)
        self.record.databases, self.record.snapshots = dict(done.databases), dict(done.snapshots)
        self.record.plain, self.record.versions = list(done.plain), dict(done.versions)
        self._save()
        for note in done.notes:
            self.monitor.say(note)
        return done

    def _refresh(self, *, plan_only: bool, force: bool) -> Refreshed:
        return refresh(
            self.source,
            self.mirror,
            self.settings,
            self.talk,
            lock=self.lock,
            known=Known(self.record.databases, self.record.snapshots, self.record.plain),
            plan_only=plan_only,
            force=force,
        )

    def _open(self) -> list[Place]:
        """Open every destination, and see whether the last archive is still there."""
        places = [Place(each) for each in open_destinations(self.host, self.settings)]
        for place in places:
            place.attempt(place.destination.check)
        return places

    def _archive(self, done: Refreshed) -> Report:
        last = self.record.archive
        target = [*(place.url for place in self.places), self.settings.recipient, list(self.settings.exclude)]
        due = self.record.dirty or self.record.settings != target or not self._everywhere(last)
        if not due or all(place.error for place in self.places):
            current, notes = None if due else last, tuple(done.notes)
            return Report(self.host, current=current, notes=notes, warnings=notes, errors=self._errors())
        name = free_name(
            self.host, self.places, datetime.now(UTC), encrypted=self.settings.recipient is not None
        )
        manifest_of = self._describer(name)
        with self.talk.step("archive", silent=True) as meter:
            manifest, summary = store(
                name,
                self.mirror,
                done.owners,
                self.places,
                self.settings,
                manifest_of,
                progress=lambda count: meter.advance(count, None),
            )
        self._verify(name, manifest, summary)
        removed = self._retain(name)
        errors = self._errors()
        if any(place.verified for place in self.places):
            self.record.archive, self.record.stored = str(name), summary.stored
            # A destination that failed gets an archive when it answers again, see _everywhere.
            self.record.dirty, self.record.settings = False, target
        return Report(
            self.host,
            archive=str(name),
            files=summary.files,
            size=summary.size,
            stored=summary.stored,
            verified={place.url: place.verified for place in self.places if place.verified},
            removed=tuple(map(str, removed)),
            notes=(*done.notes, *(note for place in self.places for note in place.notes)),
            warnings=tuple(done.notes),
            errors=errors,
        )

    def _describer(self, name: Name) -> Callable[[Packed], Manifest]:
        def describe(packed: Packed) -> Manifest:
            return Manifest(
                host=self.host,
                created=name.created.isoformat(),
                user=self.source.user,
                entries=packed.entries,
                databases=self.record.databases,
                exclude=self.settings.exclude,
                versions=self.record.versions,
                notes=packed.notes,
            )

        return describe

    def _everywhere(self, last: str) -> bool:
        """Whether every destination that answers still has the last archive, verified."""
        if not last:
            return False
        suffix = ".age" if self.settings.recipient else ""
        parsed = parse(f"{last}.tar.zst{suffix}")
        if parsed is None or ahead(parsed[0], datetime.now(UTC)):  # a restore of the latest would ignore it
            return False
        return all(self._has(place, parsed[0]) or place.error is not None for place in self.places)

    def _has(self, place: Place, name: Name) -> bool:
        return self.record.verified(str(name), place.url) is not None and all(
            place.attempt(place.destination.exists, each) is True for each in name.objects
        )

    def _verify(self, name: Name, manifest: Manifest, summary: Summary) -> None:
        for place in self.places:
            with self.talk.step("verify", silent=True) as meter:
                place.verified = place.attempt(
                    verify,
                    place.destination,
                    name,
                    summary,
                    manifest,
                    progress=partial(meter.advance, total=summary.stored),
                )
            if place.verified:
                self.record.note(str(name), summary.sums, place.url, place.verified)
                self._save()

    def _retain(self, name: Name) -> list[Name]:
        """Remove old archives, only where this run's archive has been verified."""
        removed: dict[Name, None] = {}
        for place in self.places:
            if place.verified:
                found = place.attempt(prune, place.destination, name.host, policy(self.settings), self.record)
                gone, notes = found or ((), ())
                removed |= dict.fromkeys(gone)
                place.notes += notes
                with suppress(SwarmError):
                    place.destination.sweep()
        return list(removed)

    def _errors(self) -> tuple[str, ...]:
        found = []
        for place in self.places:
            if place.error:
                self.talk.screen.error(place.error, self.talk.prefix)
                found.append(place.error.message)
        return tuple(found)

    def _failed(self, error: BaseException) -> None:
        words = explained(error).message if isinstance(error, Exception) else "interrupted"
        self.monitor.on_error(words)
        self._finish("failure", words)
        with suppress(SwarmError):
            self.monitor.after("failure")

    def _after(self, report: Report) -> Report:
        try:
            self.monitor.after(report.result)
        except SwarmError as error:
            self.monitor.say(error.message)
            return replace(report, errors=(*report.errors, error.message))
        except BaseException:
            self._finish("failure", "interrupted")
            raise
        return report

    def _finish(self, result: record.Result, words: str) -> None:
        """Record the end of the run, and tell of it."""
        now = time.time()
        self.record.ended, self.record.result, self.record.message = now, result, words
        if result != "failure":
            self.record.succeeded = now
        record.finish(self.host, self.record)
        self.monitor.end(result, words, self.record)

    def _save(self, *, dirty: bool | None = None) -> None:
        if dirty is not None:
            self.record.dirty = dirty
        record.save(self.host, self.record)


def owners_of(found: Record) -> Owners:
    """Return the owners that a record remembers."""
    values = found.owners
    others = {str(path): (str(pair[0]), str(pair[1])) for path, pair in values.get("others", {}).items()}
    modes = {str(path): int(mode) for path, mode in values.get("modes", {}).items()}
    return Owners(str(values.get("user", "openclaw")), str(values.get("group", "openclaw")), others, modes)
