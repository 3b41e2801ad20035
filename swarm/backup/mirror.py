"""From a guest to a good mirror: survey, guards, rsync, and the databases' snapshots in their places.

An unchanged guest costs one dry run of rsync, beside which the guest surveys its databases. The mirror changes only
after the guards have agreed. A run that was killed is completed by the next one.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.backup import guards
from swarm.backup.local import file_counts, is_file, is_folder, marker_of, mtime_of, size_of, sweep, top_names
from swarm.backup.rsync import PARTIAL, VANISHED, Outcome, Rsync, exact, explain
from swarm.backup.snapshot import Source, Survey, clean_up, converse
from swarm.errors import CommandFailed, Refused, SwarmError, Unfit, VerificationFailed
from swarm.files import private_dir
from swarm.text import amount, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from swarm.backup.owners import Owners
    from swarm.console import Meter, Talk
    from swarm.inventory.backup import BackupSettings
    from swarm.locks import Lock

__all__ = ["Known", "Refreshed", "Source", "refresh"]

_SUFFIXES = (".sqlite", ".sqlite3", ".db", ".db3")
_SIDECARS = ("-wal", "-shm", "-journal")
_SLACK = 20  # deletions beyond those of the dry run that rsync may make


@dataclass(frozen=True)
class Known:
    """What the last backup recorded: the rows of each database's tables, each database's signature, and `plain` files.

    `plain` are files that are named like a database and are none.
    """

    databases: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    snapshots: Mapping[str, Sequence[int]] = field(default_factory=dict)
    plain: Sequence[str] = ()


@dataclass(frozen=True)
class Refreshed:
    """The result. `databases`, `snapshots` and `plain` are the next run's Known; `plan` and `losses` are for people."""

    changed: bool
    owners: Owners
    databases: dict[str, dict[str, int]]
    snapshots: dict[str, list[int]]
    plain: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    transferred: int = 0
    deleted: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    plan: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()

    @property
    def known(self) -> Known:
        """What to hand to the next run."""
        return Known(self.databases, self.snapshots, self.plain)


def refresh(
    source: Source,
    mirror: Path,
    settings: BackupSettings,
    talk: Talk,
    *,
    lock: Lock,
    known: Known,
    plan_only: bool = False,
    force: bool = False,
) -> Refreshed:
    """Bring `mirror` up to date with the guest. Raise Refused, naming the losses, if something would be lost.

    With `plan_only` nothing is written, here or in the guest, and losses are only listed. With `force` they are
    accepted. Any other failure raises another SwarmError.
    """
    job = _Job(source, mirror, settings, Rsync(source.link, lock, settings.bwlimit), known)
    if not plan_only:
        private_dir(mirror)
    try:
        with talk.step("comparing the guest with its mirror"):
            job.look(snapshot=not plan_only)
        if not plan_only:
            job.judge(force=force)
            if job.differs():
                job.check_space()
                with talk.step("copying the guest's state") as meter, job.unfinished():
                    partial = job.copy(meter, force=force)
                if partial:  # all else is in the mirror, which is not half written
                    raise partial
    finally:
        job.clean_up()
    return job.plan() if plan_only else job.result()


class _Job:
    """One refresh of one mirror."""

    def __init__(
        self, source: Source, mirror: Path, settings: BackupSettings, rsync: Rsync, known: Known
    ) -> None:
        self.source, self.mirror, self.settings, self.rsync = source, mirror, settings, rsync
        self.known = known
        self.survey, self.dry, self.done = Survey(), Outcome(), Outcome()
        self.notes: list[str] = []
        self.changed = self.vanished = False
        self._marker = marker_of(mirror)

    def look(self, *, snapshot: bool) -> None:
        """Survey the guest and, beside that, let rsync say what it would do."""
        known: dict[str, Sequence[int]] = dict.fromkeys(self.known.databases, ())
        old = self.known.snapshots  # of which the mirror still has those with the same time
        known |= {path: each for path, each in old.items() if mtime_of(self.mirror / path) == each[1]}
        conversation = converse(self.source, known, self.settings.exclude, snapshot=snapshot)
        early: Outcome | None = None
        rules = self._rules(self.known.snapshots, self.known.plain)
        try:
            if conversation.wait() and self.known.snapshots:
                early = self._dry_run(rules)
            self.survey = conversation.result()
        except BaseException:
            conversation.give_up()
            raise
        # The databases are not those of the last time: what rsync has said is not about this guest.
        now = self._rules(self.survey.databases, self.survey.plain)
        self.dry = early if early and rules == now else self._dry_run(now)
        if self.dry.code not in {0, PARTIAL, VANISHED}:
            raise explain(self.source.host, self.dry, self.mirror)

    def differs(self) -> bool:
        """Whether there is anything to do."""
        looked_at = any(not each.same for each in self.survey.databases.values())
        return bool(self.dry.items or self.dry.code or looked_at or self._marker.exists())

    def losses(self) -> list[str]:
        """Return what would be lost, as sentences."""
        survey, files = self.survey, dict[str, int]()
        suspect = [
            name for name in top_names(self.mirror) if name in survey.leaves or not survey.top.get(name)
        ]
        if self.dry.deleted or suspect:
            files = file_counts(self.mirror)
        folders = {name: files[name] for name in suspect if is_folder(self.mirror / name)}
        before = guards.Before(sum(files.values()), folders, self._databases_before())
        after = guards.After(survey.top, self.dry.deleted, self._databases_after(), survey.leaves)
        return guards.losses(before, after, self.settings.max_loss)

    def judge(self, *, force: bool) -> None:
        """Raise Refused if something would be lost, and VerificationFailed if a database is damaged."""
        host, losses = self.source.host, self.losses()
        damaged = [
            f"{visible(path, lines=False)}: {each.problem}"
            for path, each in sorted(self.survey.databases.items())
            if each.problem
        ]
        if force:
            self.notes += [f"accepted: {each}" for each in (*losses, *damaged)]
        elif losses:
            raise Refused(
                f"{host}: the backup would lose something; the mirror is unchanged:\n  "
                + "\n  ".join(losses),
                "if this is intended, run the backup again with --force",
            )
        elif damaged:
            raise VerificationFailed(
                f"{host}: a database in the guest is damaged; the mirror is unchanged:\n  "
                + "\n  ".join(damaged),
                "repair it in the guest, or run the backup again with --force",
            )

    def check_space(self) -> None:
        """Raise Unfit if this machine's disk cannot hold what is new, beside what it replaces."""
        needed = max(0, self.dry.size - self.survey.sparse) + self._snapshot_bytes()
        disk = os.statvfs(self.mirror)
        if needed > (free := disk.f_bavail * disk.f_frsize):
            raise Unfit(
                f"{self.mirror}: the disk is full: the copy needs {amount(needed)}, {amount(free)} are free",
                "free some space there; the mirror is unchanged",
            )

    def copy(self, meter: Meter, *, force: bool) -> SwarmError | None:
        """Change the mirror: first the files, then the snapshots. Return the error if single files were not copied."""
        partial = self._copy_files(meter, force=force)
        if self.survey.fresh:
            # Two snapshots may share size and time, so each one is copied.
            options = ("--ignore-times",)
            done = self.rsync.run(
                self.survey.staging, self.mirror, *options, meter=meter, total=self._snapshot_bytes()
            )
            if done.code:
                raise explain(self.source.host, done, self.mirror)
            self.done.transferred += done.transferred
        self.mirror.chmod(0o700)
        if not partial:
            self._check_required(force=force)
        return partial

    def _copy_files(self, meter: Meter, *, force: bool) -> SwarmError | None:
        """Run rsync, again if files have vanished. Return the error if some files could not be copied."""
        limit = () if force else (f"--max-delete={self.dry.removed + _SLACK}",)
        self.done = self._run(meter, "--delete", "--delete-delay", *limit)
        if self.done.code == VANISHED:
            self.vanished = True
            self.notes.append("some files vanished in the guest while they were copied")
            # Nothing is deleted this time: what the guards have seen is no longer what the guest has.
            again = self._run(meter)
            self.done.code = again.code
            self.done.transferred += again.transferred
        if self.done.code in {0, VANISHED}:
            return None
        error = explain(self.source.host, self.done, self.mirror)
        if self.done.code == PARTIAL and isinstance(error, CommandFailed):
            return error
        raise error

    def _run(self, meter: Meter, *options: str) -> Outcome:
        rules = self._rules(self.survey.databases, self.survey.plain)
        return self.rsync.run(
            self.source.state_dir, self.mirror, *options, rules=rules, meter=meter, total=self.dry.size
        )

    def _check_required(self, *, force: bool) -> None:
        """Raise CommandFailed if something that was there at the start has not arrived."""
        if not is_file(self.mirror / "openclaw.json"):
            raise CommandFailed(
                f"{self.source.host}: openclaw.json vanished while it was copied", "run it again"
            )
        if force or not self.vanished:
            return
        arrived = file_counts(self.mirror)
        gone = [
            name for name, files in sorted(self.survey.top.items()) if files > 0 and not arrived.get(name)
        ]
        if gone:
            raise CommandFailed(
                f"{self.source.host}: {visible(gone[0], lines=False)} vanished while it was copied",
                "run the backup again",
            )

    @contextmanager
    def unfinished(self) -> Iterator[None]:
        """Mark the mirror as unfinished during the block, and if the block raises or the process is killed."""
        if self._marker.exists():
            sweep(self.mirror)
        self._marker.touch(0o600)
        self.changed = True
        try:
            yield
        except BaseException:
            sweep(self.mirror)
            raise
        self._marker.unlink()

    def clean_up(self) -> None:
        """Remove the snapshots from the guest. A failure is noted: the next backup removes them first."""
        if self.survey.fresh:
            try:
                clean_up(self.source, self.survey.staging)
            except SwarmError:
                self.notes.append(
                    "the snapshots in the guest could not be removed; the next backup removes them"
                )

    def result(self) -> Refreshed:
        """Return what was done."""
        survey = self.survey
        good = {path: each for path, each in survey.databases.items() if each.same or each.copied}
        return Refreshed(
            changed=self.changed,
            owners=survey.owners,
            databases=self._databases_after(),
            snapshots={path: list(each.signature) for path, each in good.items() if not each.problem},
            plain=survey.plain,
            notes=(*self.notes, *(f"unreadable: {visible(path, lines=False)}" for path in survey.unreadable)),
            transferred=self.done.transferred,
            deleted=self.done.deleted,
            versions=survey.versions,
        )

    def plan(self) -> Refreshed:
        """Return what would be done."""
        more = self.dry.items - len(self.dry.shown)
        looked_at = [path for path, each in sorted(self.survey.databases.items()) if not each.same]
        lines = [
            *self.dry.shown,
            *([f"and {more} more changes"] if more else []),
            *(f"snapshot {visible(path, lines=False)}" for path in looked_at),
        ]
        return replace(
            self.result(),
            changed=self.differs(),
            transferred=self.dry.transferred,
            deleted=self.dry.deleted,
            plan=tuple(lines),
            losses=tuple(self.losses()),
        )

    def _snapshot_bytes(self) -> int:
        return sum(each.signature[0] + each.signature[3] for each in self.survey.fresh.values())

    def _dry_run(self, rules: Sequence[str]) -> Outcome:
        with tempfile.TemporaryDirectory(prefix="swarm-") as empty:
            target = self.mirror if self.mirror.is_dir() else Path(empty)
            options = ("--dry-run", "--delete", "--delete-delay")
            return self.rsync.run(self.source.state_dir, target, *options, rules=rules)

    def _rules(self, databases: Iterable[str], plain: Iterable[str]) -> list[str]:
        """Return the filters of rsync. What they hide from the sender is deleted from the mirror.

        Databases come as snapshots instead. A database that was created after the survey waits for the next backup.
        """
        paths = sorted(databases)
        return [
            "P /openclaw.json",  # required, so that only the guards decide about it
            *(f"- {exact(path)}" for path in paths),
            *(f"H {pattern}" for pattern in self.settings.exclude),
            *(f"H {exact(path + sidecar)}" for path in paths for sidecar in _SIDECARS),
            *(f"S {exact(path)}" for path in sorted(plain)),
            *(f"S *{suffix}{sidecar}/" for suffix in _SUFFIXES for sidecar in ("", *_SIDECARS)),
            *(f"H *{suffix}{sidecar}" for suffix in _SUFFIXES for sidecar in ("", *_SIDECARS)),
        ]

    def _databases_before(self) -> dict[str, Mapping[str, int] | None]:
        before: dict[str, Mapping[str, int] | None] = dict(self.known.databases)
        for path in self.survey.fresh:
            if path not in before and size_of(self.mirror / path):
                before[path] = None
        return before

    def _databases_after(self) -> dict[str, dict[str, int]]:
        known = self.known.databases
        return {
            path: dict(each.tables if each.copied and each.tables is not None else known.get(path, {}))
            for path, each in self.survey.databases.items()
        }
