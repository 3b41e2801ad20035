"""The same verb on several hosts, side by side: one host's failure stops that host alone."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from swarm.console import Talk, screen
from swarm.errors import SwarmError, UsageError
from swarm.inventory import Host, load_several, names
from swarm.text import seconds

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Outcome", "chosen", "run", "summary", "worst"]

Result = TypeVar("Result")

_SIDE_BY_SIDE = 16  # hosts at once; each costs a thread, a libvirt connection and an SSH connection


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """How the verb ended on one host: with a result or with an error, after so many seconds."""

    host: Host
    result: Result | None
    error: SwarmError | None
    took: float

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain data."""
        to_json = getattr(self.result, "to_json", dict)
        error = {"message": self.error.message, "hint": self.error.hint} if self.error else None
        return {**to_json(), "host": self.host.name, "seconds": round(self.took, 3), "error": error}


def chosen(words: str | None) -> list[Host]:
    """Return the hosts that `--host` names: one, several with commas, or "all". Raise UsageError or InventoryError."""
    if not words:
        raise UsageError(
            "which host? --host takes a name, several with commas, or all",
            f"known hosts: {', '.join(names()) or 'none yet'}",
        )
    wanted = names() if words == "all" else [word.strip() for word in words.split(",") if word.strip()]
    if not wanted:
        raise UsageError("there is no host", "hosts/demo.yaml is a host file that runs anywhere")
    return load_several(list(dict.fromkeys(wanted)))


def run(
    hosts: list[Host],
    verb: Callable[[Host, Talk], Result],
    *,
    first: Callable[[Host], object] | None = None,
    quiet: bool = False,
) -> list[Outcome[Result]]:
    """Run `verb` on each host and return the outcomes in the hosts' order; errors are shown when they happen.

    `first` is called for one host after another before that. It is for what should begin at once and goes on by itself, like a connection:
    threads that all prepare their work at the same time are in each other's way, and every host would be asked late.
    """
    several = len(hosts) > 1
    failed: dict[str, SwarmError] = {}
    if first:
        for host in hosts:
            try:
                first(host)
            except SwarmError as error:
                failed[host.name] = error

    def one(host: Host) -> Outcome[Result]:
        talk = Talk(screen(), host.name if several else "", quiet=quiet)
        start = time.monotonic()
        try:
            if host.name in failed:
                raise failed[host.name]
            return Outcome(host, verb(host, talk), None, time.monotonic() - start)
        except SwarmError as error:
            screen().error(error, talk.prefix)
            return Outcome(host, None, error, time.monotonic() - start)

    if not several:
        return [one(host) for host in hosts]
    return _side_by_side(one, hosts)


def _side_by_side(one: Callable[[Host], Outcome[Result]], hosts: list[Host]) -> list[Outcome[Result]]:
    """Call `one` on each host in threads; raise what it raises.

    The threads are daemons, since Ctrl-C must not wait for hosts that wait for their guests; what is cut short so, the next
    run mends. A ThreadPoolExecutor would wait for them when Python ends.
    """
    todo, done = (
        SimpleQueue[tuple[int, Host]](),
        SimpleQueue[tuple[int, Outcome[Result] | None, BaseException | None]](),
    )
    for item in enumerate(hosts):
        todo.put(item)

    def work() -> None:
        with suppress(Empty):
            while True:
                number, host = todo.get_nowait()
                try:
                    done.put((number, one(host), None))
                except BaseException as error:  # noqa: BLE001 - it is raised again, in the thread that waits
                    done.put((number, None, error))

    for _ in range(min(_SIDE_BY_SIDE, len(hosts))):
        Thread(target=work, daemon=True).start()
    ended: dict[int, Outcome[Result]] = {}
    for _ in hosts:
        number, outcome, error = done.get()
        if outcome is None:
            raise error or AssertionError("a thread ended with neither result nor error")
        ended[number] = outcome
    return [ended[number] for number in sorted(ended)]


def summary(outcomes: list[Outcome[Any]], words: Callable[[Any], str]) -> None:
    """Show a table with one line for each of several hosts; `words` says a result in a few words."""
    if len(outcomes) > 1:
        rows = [
            (
                each.host.name,
                f"failed: {each.error.message.splitlines()[0]}" if each.error else words(each.result),
                seconds(each.took),
            )
            for each in outcomes
        ]
        screen().table(("host", "result", "time"), rows)


def worst(outcomes: list[Outcome[Any]]) -> int:
    """Return the worst exit code."""
    return max((each.error.exit_code for each in outcomes if each.error), default=0)
