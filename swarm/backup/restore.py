"""Put a tree back into a guest: stage it there, check it, swap it in, and undo that if the gateway gets not ready."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from swarm.backup.answers import read_scan, sentence, value_of
from swarm.backup.changes import Changes, changes, is_secret, prepared
from swarm.backup.manifest import Entry
from swarm.backup.pick import units, within
from swarm.backup.swap import Gateway, Program, occupied, send
from swarm.deadline import Deadline
from swarm.errors import Refused, SwarmError, VerificationFailed, explained
from swarm.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from swarm.backup.manifest import Manifest
    from swarm.backup.swap import Service
    from swarm.console import Talk
    from swarm.inventory.backup import BackupSettings
    from swarm.locks import Lock
    from swarm.ssh.guest import Guest

__all__ = ["Restored", "Target", "restore", "restore_paths"]

_COPIES = 3  # how many of the replaced trees are kept in the guest
_SHOWN = 8  # problems that an error tells
_PATIENCE = 60.0  # seconds after which the gateway is started again
_READY = 600.0  # seconds until the gateway is ready; under emulation it takes 300


@dataclass(frozen=True)
class Target:
    """Where a tree goes: the account `user` of a guest. `service` False: there is no gateway to stop or wait for.

    `lock` is the host's, which the transfer holds too, so that it can't outlive this process unnoticed.
    """

    guest: Guest
    host: str
    user: str
    state_dir: str
    port: int
    service: bool | Service = True
    lock: Lock | None = None


@dataclass(frozen=True)
class Restored:
    """The outcome. `problems` lists what could not be restored; if there are any, the command must not exit with 0."""

    host: str
    changes: Changes
    changed: bool = False
    aside: str = ""  # where the replaced entries are in the guest
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """1 if something could not be restored, else 0."""
        return int(bool(self.problems))

    @property
    def summary(self) -> str:
        """The outcome in a few words."""
        if self.problems:
            return f"{len(self.problems)} entries could not be restored"
        if not self.changed:
            return self.changes.lines()[0] if self.changes else "nothing to do"
        return f"restored; what was replaced is in {self.aside}" if self.aside else "restored"

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain data."""
        return asdict(self)


def restore(
    target: Target,
    tree: Path,
    manifest: Manifest,
    settings: BackupSettings,
    talk: Talk,
    *,
    plan_only: bool = False,
    confirm: Callable[[Changes], None] | None = None,
    ready_timeout: float = _READY,
) -> Restored:
    """Make the guest's state directory equal to `tree`. Excluded entries stay as they are.

    `confirm` is called with the changes and raises Refused to stop. Raise VerificationFailed if the tree is not what
    the manifest lists (nothing has changed then), or if the gateway is not ready afterwards (the old state is back).
    """
    entries = prepared(manifest, target.user)
    if not entries:
        raise Refused(f"{target.host}: the backup is empty, so everything would be removed")
    tops = tuple(sorted({entry.path.partition("/")[0] for entry in entries}))
    exclude = tuple(dict.fromkeys((*manifest.exclude, *settings.exclude)))
    databases = tuple(manifest.databases)
    job = _Job(target, tree, entries, databases, exclude, tops, True, ready_timeout, talk)  # noqa: FBT003
    return job.run(plan_only=plan_only, confirm=confirm)


def restore_paths(
    target: Target,
    tree: Path,
    manifest: Manifest,
    paths: Sequence[str],
    talk: Talk,
    *,
    plan_only: bool = False,
    confirm: Callable[[Changes], None] | None = None,
) -> Restored:
    """Restore single files or subtrees of the state directory, and nothing else. Raise as restore() does.

    The gateway is stopped only if a database or a secret is among them.
    """
    known = prepared(manifest, target.user)
    chosen = units(paths, target.state_dir, {entry.path for entry in known})
    entries = tuple(entry for entry in known if within(entry.path, chosen))
    databases = tuple(path for path in manifest.databases if within(path, chosen))
    quiet = not databases and not any(is_secret(entry.path) for entry in entries)
    job = _Job(target, tree, entries, databases, manifest.exclude, chosen, False, _READY, talk, quiet)  # noqa: FBT003
    return job.run(plan_only=plan_only, confirm=confirm)


@dataclass(frozen=True)
class _Job:
    target: Target
    tree: Path
    entries: tuple[Entry, ...]
    databases: tuple[str, ...]
    exclude: tuple[str, ...]
    units: tuple[str, ...]
    whole: bool
    timeout: float
    talk: Talk
    quiet: bool = False  # the gateway goes on while the files are swapped

    def run(self, *, plan_only: bool, confirm: Callable[[Changes], None] | None = None) -> Restored:
        host = self.target.host
        if self.tree.is_symlink() or not self.tree.is_dir():
            raise Refused(f"{host}: {self.tree} is not a directory")
        planned, notes = self._look(plan_only=plan_only)
        if not planned:
            self.talk.done("nothing to restore: the state directory is as in the backup")
            return Restored(host, planned, notes=notes)
        for line in planned.lines():
            self.talk.say(line)
        if plan_only:
            return Restored(host, planned, notes=notes)
        if confirm:
            confirm(planned)
        problems = self._stage()
        answer = self._exchange()
        return self._outcome(Restored(host, planned, True, notes=notes, problems=problems), answer)  # noqa: FBT003

    def _outcome(self, done: Restored, answer: Mapping[str, Any]) -> Restored:
        notes, aside = list(done.notes), str(answer.get("aside", ""))
        if aside:
            aside = f"{PurePosixPath(self.target.state_dir).parent}/{aside}"
            notes.append(f"the replaced entries are in {aside}")
        if left := answer.get("left"):
            notes.append(
                f"{left} excluded entries are only there, since the backup has no directory for them"
            )
        for note in notes:
            self.talk.say(note)
        for problem in done.problems:
            self.talk.warn(problem)
        return replace(done, aside=aside, notes=tuple(notes))

    @property
    def _program(self) -> Program:
        target = self.target
        common = {
            "state": target.state_dir,
            "account": target.user,
            "databases": self.databases,
            "exclude": self.exclude,
            "units": self.units,
            "whole": self.whole,
            "copies": _COPIES,
        }
        return Program(target.guest, target.host, common, self.entries)

    def _service(self) -> Service | None:
        service = self.target.service
        if isinstance(service, bool):
            return Gateway(self.target.guest, self.target.host, self.target.user) if service else None
        return service

    def _look(self, *, plan_only: bool) -> tuple[Changes, tuple[str, ...]]:
        """Return the changes, and notes about them. First settle what a killed run has left."""
        with self.talk.step("compare the state directory with the backup", silent=True):
            phase, missing, found = read_scan(self.target.host, self._program.ask("scan"))
        if phase and plan_only:
            self.talk.warn("an earlier restore was interrupted; the next one settles that first")
        elif phase:
            self._settle(phase)
            return self._look(plan_only=plan_only)
        wanted = self.entries
        if self.whole:
            user = self.target.user
            wanted = (Entry(".", "directory", 0o700, 0, user, f"\0{user}"), *wanted)
        else:
            found = [entry for entry in found if within(entry.path, self.units)]
        stand_in, notes = self._stand_in(missing)
        return changes(wanted, found, stand_in), notes

    def _stand_in(self, missing: Mapping[str, Any]) -> tuple[dict[str, str], tuple[str, ...]]:
        user, group = self.target.user, str(missing["group"])
        names = {f"user {name}": user for name in missing["users"]}
        names |= {f"group {name}": group for name in missing["groups"]}
        notes = tuple(
            f"the guest has no {visible(name, lines=False)}: {names[name]} takes its place"
            for name in sorted(names)
        )
        return {**names, f"group \0{user}": group}, notes

    def _settle(self, phase: str) -> None:
        # The killed run may have left the gateway stopped. It is started again, also if there is nothing to restore.
        if phase == "swapped":  # complete, but for the cleaning up; the gateway may have worked with it since
            with self._resting():
                self._program.ask("finish")
            return
        self.talk.warn("an earlier restore was interrupted; rolling it back")
        with self._resting():
            self._undo()

    def _undo(self) -> None:
        wrong = [each for each in self._program.ask("undo") if isinstance(each, dict) and "wrong" in each]
        if wrong:
            raise VerificationFailed(
                f"{self.target.host}: can't put back {sentence(wrong[0])}",
                f"the replaced entries are in {self.target.state_dir}-replaced",
            )

    @contextlib.contextmanager
    def _resting(self) -> Iterator[bool]:
        """Stop the gateway for the block, and start it afterwards, whatever happens. Give whether there is one."""
        service = self._service()
        running = service is not None and self._stopped(service)
        try:
            yield running
        finally:
            if service is not None and running:
                service.start()

    def _stage(self) -> tuple[str, ...]:
        """Copy the tree into the guest and check it there. Return a sentence for each link that can't be restored."""
        program, host = self._program, self.target.host
        staging = value_of(host, program.ask("prepare", need=occupied(self.tree, self.entries)), "staging")
        with self.talk.step("copy the files into the guest"):
            guest, paths = self.target.guest, None if self.whole else self.units
            complaint = send(guest, host, self.tree, staging, paths, lock=self.target.lock)
        with self.talk.step("check the files in the guest"):
            wrong = [each for each in program.ask("check") if isinstance(each, dict) and "wrong" in each]
        fatal = [each for each in wrong if each.get("fatal")]
        if fatal:
            raise VerificationFailed(
                f"{host}: the copy in the guest is not what the manifest lists, so nothing was changed: "
                + "; ".join(map(sentence, fatal[:_SHOWN])),
                complaint.splitlines()[0] if complaint else None,
            )
        return tuple(map(sentence, wrong))

    def _exchange(self) -> Mapping[str, Any]:
        """Swap the staged tree in while the gateway rests. Undo that if it is not ready afterwards."""
        service, program, host = None if self.quiet else self._service(), self._program, self.target.host
        if service:
            with self.talk.step("stop the gateway"):
                service = service if self._stopped(service) else None
        try:
            with self.talk.step("swap the files"):
                stamp = datetime.now(UTC).strftime("%Y%m%dt%H%M%Sz")
                answers = program.ask("swap", stamp=stamp)
            if service:
                with self.talk.step("wait for the gateway"):
                    self._started(service)
        except BaseException as error:  # noqa: BLE001 - Ctrl-C too: the guest must not stay half restored
            first = explained(error) if isinstance(error, Exception) else SwarmError(f"{host}: interrupted")
            raise self._back(service, first) from (None if isinstance(error, SwarmError) else error)
        try:
            program.ask("finish")
        except SwarmError as error:
            self.talk.warn(f"cleaning up failed; the next restore does it: {error.message}")
        return next((each for each in answers if isinstance(each, dict) and "aside" in each), {})

    def _stopped(self, service: Service) -> bool:
        try:
            found = service.stop()
        except BaseException:
            with contextlib.suppress(SwarmError):
                service.start()
            raise
        if not found:
            self.talk.warn("the gateway's unit is not installed, so there is nothing to stop or to wait for")
        return found

    def _started(self, service: Service) -> None:
        """Start the gateway and wait until it is ready. Start it again each minute, as systemd gives up after a while.

        A backup of a running gateway holds its lease on the state, which is valid for 5 minutes. On a guest with
        another host name, OpenClaw cannot tell that its owner is gone, and refuses to start until then.
        """
        deadline = Deadline(self.timeout)
        while True:
            service.start()
            limit = min(_PATIENCE, deadline.remaining)
            answers = self._program.ask("ready", port=self.target.port, timeout=limit)
            if not (reason := value_of(self.target.host, answers, "reason")):
                return
            if deadline.expired:
                raise VerificationFailed(
                    f"{self.target.host}: the gateway is not ready after {self.timeout:.0f} s "
                    f"({visible(reason, lines=False)[:200]})"
                )

    def _back(self, service: Service | None, first: SwarmError) -> VerificationFailed:
        """Put the old state back. Return the error to raise, which tells the first error first."""
        troubles = []
        actions: list[Callable[[], object]] = [self._undo]
        for action in [service.stop, *actions, service.start] if service else actions:
            try:
                action()
            except Exception as error:  # noqa: BLE001 - reported after the first error
                troubles.append(explained(error))
        if not troubles:
            return VerificationFailed(f"{first.message}; the old state is back", first.hint)
        more = "; ".join(error.message for error in troubles)
        return VerificationFailed(
            f"{first.message}; then putting the old state back failed too: {more}",
            f"run the restore again; what was replaced is in {self.target.state_dir}-replaced in the guest",
        )
