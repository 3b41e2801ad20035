"""Run one verb on several hosts side by side. One host's failure ends that host's run alone."""

from __future__ import annotations

import os
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from swarm.commands.selection import Selection, chosen, every
from swarm.commands.threads import side_by_side
from swarm.console import Talk, escape, screen
from swarm.errors import InternalError, SwarmError, explained
from swarm.logs import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from swarm.inventory import Host

    Step = tuple[Callable[["Selection"], "list[Outcome[Any]]"], Callable[["list[Outcome[Any]]"], int]]

__all__ = ["SIDE_BY_SIDE", "Outcome", "Selection", "Step", "chosen", "every", "in_turn", "run"]

Result = TypeVar("Result")

SIDE_BY_SIDE = 16  # hosts at once; each costs a thread, a libvirt connection and an SSH connection


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """The result or the error of the verb on one host, after `took` seconds."""

    name: str
    result: Result | None
    error: SwarmError | None
    took: float
    host: Host | None = None  # None: its host file can't be used

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain data."""
        to_json = getattr(self.result, "to_json", dict)
        error = {"message": self.error.message, "hint": self.error.hint} if self.error else None
        return {**to_json(), "host": self.name, "seconds": round(self.took, 3), "error": error}


def run(
    selection: Selection,
    verb: Callable[[Host, Talk], Result],
    *,
    first: Callable[[Host], object] | None = None,
    quiet: bool = False,
    at_once: int = SIDE_BY_SIDE,
) -> list[Outcome[Result]]:
    """Run `verb` on each host and return the outcomes, sorted as selected. Errors are shown when they happen.

    Every exception becomes that host's error. Only KeyboardInterrupt and SystemExit end the whole run.

    `first` is called for one host after another before its verb, and `at_once` hosts ahead. Use it for what should
    begin early and continues on its own, like a connection: threads that all prepare their work at the same time delay
    each other. `at_once` is larger for a verb that mostly waits.
    """
    ahead, failed, turn = iter(selection.hosts if first else ()), dict[str, Exception](), Lock()
    if len(selection.hosts) > 1:
        _write_configs(selection.hosts)

    def begin() -> None:
        """Call `first` for the next host whose turn it is."""
        with turn:
            host = next(ahead, None)
            if host is None or first is None:
                return
            try:
                first(host)
            except Exception as error:  # noqa: BLE001 - it becomes this host's outcome below
                failed[host.name] = error

    for _ in selection.hosts[:at_once]:
        begin()

    def one(host: Host) -> Outcome[Result]:
        begin()
        talk = Talk(screen(), host.name if selection.several else "", quiet=quiet, log=Log(host.name).line)
        start = time.monotonic()
        try:
            if host.name in failed:
                raise failed[host.name]  # noqa: TRY301 - to be treated like the verb's own
            return Outcome(host.name, verb(host, talk), None, time.monotonic() - start, host)
        except Exception as error:  # noqa: BLE001 - one host's failure must not end the others' runs
            return Outcome(host.name, None, _shown(error, talk), time.monotonic() - start, host)

    outcomes = [_unusable(name, error, selection, quiet=quiet) for name, error in selection.broken.items()]
    if len(selection.hosts) > 1:
        outcomes += side_by_side(one, selection.hosts, at_once)
    else:
        outcomes += [one(host) for host in selection.hosts]
    return sorted(outcomes, key=lambda each: each.name) if selection.broken else outcomes


def _write_configs(hosts: Iterable[Host]) -> None:
    """Write the SSH configuration of all hosts at once. Each host's own attempt reports what is wrong with it."""
    from swarm import access

    with suppress(SwarmError, OSError):
        access.prepare(hosts)


def in_turn(selection: Selection, steps: Iterable[Step]) -> int:
    """Run steps one after another, and return the worst exit code. A host that fails is left out of the later steps.

    A step is a pair: what runs a verb on a selection, and what shows the outcomes and returns their exit code.
    """
    worst = 0
    for step, show in steps:
        outcomes = step(selection)
        worst = max(worst, show(outcomes))
        left = [each.host for each in outcomes if each.host and not each.error]
        selection = Selection(left, of_several=selection.several)
        if not left:
            break
    return worst


def _unusable(name: str, error: SwarmError, selection: Selection, *, quiet: bool) -> Outcome[Any]:
    return Outcome(
        name, None, _shown(error, Talk(screen(), name if selection.several else "", quiet=quiet)), 0.0
    )


def _shown(error: Exception, talk: Talk) -> SwarmError:
    """Show an error, with the traceback of a defect if SWARM_DEBUG is set, and return it as a SwarmError."""
    sentence = explained(error)
    if isinstance(sentence, InternalError) and os.environ.get("SWARM_DEBUG"):
        talk.screen.line(escape("".join(traceback.format_exception(error))))
    talk.screen.error(sentence, talk.prefix)
    talk.record(f"error: {sentence.message}" + (f"\nhint: {sentence.hint}" if sentence.hint else ""))
    return sentence
