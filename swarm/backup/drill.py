"""`inv drill`: restore an archive into a throwaway VM that has no way out, compare everything, and record the result.

The host's backup lock is held only while the archive is read, and for the moment in which the result is written. The
VM takes much longer, and a nightly backup must not wait for it. One drill runs at a time on this machine.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from swarm import access, history
from swarm.backup import monitor, record, recover, rehearsal
from swarm.backup.busy import hold_host
from swarm.console import Talk, escape
from swarm.deadline import Deadline
from swarm.errors import Refused, SwarmError, VerificationFailed, explained
from swarm.files import private_dir
from swarm.hypervisor.connection import Libvirt
from swarm.locks import hold
from swarm.paths import state_dir
from swarm.ssh.guest import Guest
from swarm.text import seconds
from swarm.vm import throwaway
from swarm.vm.isolation import gateway_of, isolate
from swarm.vm.provision import TIMEOUT, provision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from swarm.backup.catalog import Catalog
    from swarm.backup.naming import Name
    from swarm.backup.recover import Origin
    from swarm.backup.rehearsal import Check
    from swarm.inventory import Host
    from swarm.s3 import Destination
    from swarm.vm.throwaway import Throwaway

__all__ = ["Options", "Report", "discard", "drill"]

_PATIENCE = 3600.0  # seconds to wait for a backup of the same host


@dataclass(frozen=True)
class Options:
    """What a drill does. `files_only` leaves OpenClaw out, `keep` keeps the VM, `limit` is in seconds of waiting."""

    archive: str = "latest"
    files_only: bool = False
    keep: bool = False
    limit: float = TIMEOUT


@dataclass(frozen=True)
class Report:
    """The outcome of a drill."""

    host: str
    archive: str
    checks: tuple[Check, ...]
    took: float = 0.0
    changed: bool = False  # the host itself is as it was

    @property
    def failed(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if not check.ok]

    @property
    def exit_code(self) -> int:
        """1 if anything differs, else 0."""
        return int(bool(self.failed))

    @property
    def summary(self) -> str:
        """The outcome in one line."""
        if self.failed:
            return f"the drill failed: {self.failed[0].name}: {self.failed[0].text}"
        return f"{self.archive} can be restored: {len(self.checks)} checks in {seconds(self.took)}"

    def lines(self) -> list[str]:
        """Return a line of markup for each check."""
        marks = {True: "[green]✓[/]", False: "[red]✗[/]"}
        return [f"{marks[each.ok]} {escape(each.name)}: {escape(each.text)}" for each in self.checks]

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain data."""
        return {**asdict(self), "result": "failure" if self.failed else "success"}


def drill(host: Host, catalog: Callable[[], Catalog], talk: Talk, options: Options) -> Report:
    """Restore an archive into a throwaway VM, and compare it with its manifest. Record the result.

    `catalog` opens the host's archives; it is called under the backup's lock. Raise a SwarmError if the drill can't be
    carried out, which is recorded as a failure too. Whatever happens, the VM is removed, unless it is to be kept.
    """
    folder = private_dir(private_dir(state_dir()) / "drill")
    with hold(folder / "lock", waiting=lambda: talk.step("waiting for another drill")):
        return _Drill(host, catalog, talk, options).run()


def discard(host: Host, talk: Talk) -> bool:
    """Remove the VM that `keep` has kept, while no drill runs. Return True if there was one. Raise a SwarmError."""
    folder = private_dir(private_dir(state_dir()) / "drill")
    with hold(folder / "lock", waiting=lambda: talk.step("waiting for another drill")):
        tree = throwaway.folder(f"{throwaway.derived_name(host.name)}.tree")
        left = tree.exists()  # a killed drill's unpacked archive
        recover.discard(tree, talk)
        return throwaway.discard(host, talk) or left


class _Drill:
    """One drill, while no other runs on this machine."""

    def __init__(self, host: Host, catalog: Callable[[], Catalog], talk: Talk, options: Options) -> None:
        self.host, self.catalog, self.talk, self.options = host, catalog, talk, options
        self.archive = options.archive
        self.checks: list[Check] = []
        self.start = time.monotonic()

    def run(self) -> Report:
        """Carry the drill out and record it. A drill that the user interrupts is not recorded."""
        try:
            with self._unpacked() as origin, self._vm() as vm:
                self._rehearse(vm, origin)
        except Exception as error:
            try:
                self._record(explained(error).message)
            except SwarmError as second:  # the first error is the one to tell
                self.talk.warn(f"the result was not recorded: {second.message}")
            raise
        report = Report(self.host.name, self.archive, tuple(self.checks), time.monotonic() - self.start)
        self._record(report.summary if report.failed else "")
        return report

    @contextlib.contextmanager
    def _unpacked(self) -> Iterator[Origin]:
        """Unpack and verify the first good copy of the archive in a private directory, which is removed afterwards."""
        tree = throwaway.folder(f"{throwaway.derived_name(self.host.name)}.tree")
        recover.discard(tree, self.talk)  # left by a killed drill
        try:
            with self._locked():
                catalog = self.catalog()
                self.archive = str(catalog.find(self.options.archive)[1])
                recover.warn_of_silence(catalog, self.options.archive, self.talk)
                with contextlib.ExitStack() as stack:

                    def read(destination: Destination, name: Name) -> tuple[Origin, str]:
                        found = stack.enter_context(recover.unpacked(catalog, destination, name, self.talk))
                        with self.talk.step("verify the archive"):
                            return found, catalog.check(destination, name, locked=True)

                    unpacked, done = recover.first_good(catalog.copies(self.archive), self.talk, read)
                    unpacked.tree.rename(tree)
                    origin = replace(unpacked, tree=tree)
            self._note("archive", done == "content", f"{origin.what}, verified ({done})")
            yield origin
        finally:
            recover.discard(tree, self.talk)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the host's backup lock. Wait for a backup or a restore that runs."""
        deadline, waits = Deadline(_PATIENCE), False
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(hold_host(self.host.name, "drill"))
                    break
                except Refused as error:
                    if not waits:
                        self.talk.say(f"waiting: {error.message}")
                    waits = True
                    if not deadline.pause(1.0):
                        raise
            yield

    @contextlib.contextmanager
    def _vm(self) -> Iterator[Throwaway]:
        """Describe the throwaway VM. Remove it afterwards, also if the block raises."""
        vm = throwaway.prepare(self.host, self.talk)
        try:
            yield vm
        except BaseException:
            try:
                self._dispose(vm)
            except SwarmError as error:  # the first error is the one to tell
                self.talk.warn(f"the drill's VM is still there, the next drill removes it: {error.message}")
            raise
        self._dispose(vm)

    def _dispose(self, vm: Throwaway) -> None:
        if self.options.keep:
            self.talk.say(
                f"kept until the next drill: ssh -F {state_dir() / 'ssh' / 'config'} {vm.name}; "
                f"its domain is {vm.vm.domain!r}; ./inv drill --host {self.host.name} --discard removes it"
            )
            return
        with self.talk.step("remove the drill's VM"):
            if throwaway.folder(vm.name).exists() and vm.known_hosts.exists():
                Guest(access.reach(vm), vm.name).close()
            throwaway.dispose(vm, Talk(self.talk.screen, self.talk.host, quiet=True))

    def _rehearse(self, vm: Throwaway, origin: Origin) -> None:
        private_dir(throwaway.folder(vm.name))
        provision(vm, self.talk, limit=self.options.limit)
        before = self._guest(vm)
        rehearsal.prepare(before, vm, self.talk, files_only=self.options.files_only)
        targets = rehearsal.targets(self.host)
        reached = rehearsal.reach(before, vm, targets)
        before.close()
        moved = self._isolated(vm)
        guest = self._guest(moved)
        proof = rehearsal.reach(guest, moved, targets, gateway=str(gateway_of(moved.vm.ip)))
        self.checks.append(rehearsal.isolation(moved, reached, proof))
        if not self.checks[-1].ok:
            raise VerificationFailed(
                f"{self.host.name}: the drill's VM is not cut off, so nothing was restored into it: "
                f"{self.checks[-1].text}",
                "check the firewall of the hypervisor: ./inv doctor",
            )
        self.checks += rehearsal.restored(guest, self.host, moved, origin, self.talk)
        if not self.options.files_only:
            self.checks += rehearsal.started(guest, moved, self.talk, self.options.limit)

    def _isolated(self, vm: Throwaway) -> Throwaway:
        with Libvirt(vm.hypervisor.uri) as connection:
            self.talk.say("move the VM to a network without a way out")
            return isolate(vm, connection, self.talk, Deadline(self.options.limit))

    def _guest(self, vm: Throwaway) -> Guest:
        return Guest(access.reach(vm), vm.name)

    def _note(self, name: str, ok: bool, text: str) -> None:  # noqa: FBT001
        self.checks.append(rehearsal.Check(name, ok, text))

    def _record(self, trouble: str) -> None:
        """Record the result, in the backup's record and in the metrics."""
        now = time.time()
        values = {
            "result": "failure" if trouble else "success",
            "ended": now,
            "archive": self.archive,
            "message": trouble,
            "checks": [asdict(each) for each in self.checks],
        }
        with self._locked():
            found = record.load(self.host.name)
            found.drill = values
            record.save(self.host.name, found)
        took = round(time.monotonic() - self.start, 3)
        history.append(
            self.host.name, "drill", at=now, result="failure" if trouble else "success", seconds=took
        )
        if problem := monitor.write_metrics(self.host.backup.metrics, self.host.name, found):
            self.talk.warn(problem)
