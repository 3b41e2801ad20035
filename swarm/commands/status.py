"""The command that shows all hosts at a glance, in a table, as data, as a page and as metrics."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.commands.render import render
from swarm.commands.run import Outcome, Selection, chosen, run
from swarm.commands.vm import positive
from swarm.console import escape, screen
from swarm.errors import SwarmError, UsageError
from swarm.files import write_atomically
from swarm.fleet.actions import Action, actions, failed
from swarm.fleet.status import COLUMNS, Status, row, shown
from swarm.paths import expanded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from swarm.console import Talk
    from swarm.inventory import Host

__all__ = ["Targets", "status"]

# Hosts at once. They mostly wait: a host that is down for ten seconds, the others for their turn on the processors.
_AT_ONCE = 64
_PENDING = "…"
_LITELLM = "LiteLLM"  # among the hosts, as in the data of `plan`


@dataclass(frozen=True)
class Targets:
    """The files to write: a page for a browser and metrics for Prometheus."""

    html: Path | None = None
    prometheus: Path | None = None

    @classmethod
    def of(cls, html: str, prometheus: str) -> Targets:
        """Return the files that the options name. Raise UsageError for one that can't be written or replaced."""
        for option, name in (("--html", html), ("--prometheus", prometheus)):
            if name and (reason := _unusable(expanded(Path(name)))):
                raise UsageError(f"{option}: {name} {reason}", "name a file in an existing folder")
        if html and prometheus and expanded(Path(html)).resolve() == expanded(Path(prometheus)).resolve():
            raise UsageError(f"--html and --prometheus both name {html}", "name two files")
        return cls(*(expanded(Path(name)) if name else None for name in (html, prometheus)))


def _unusable(path: Path) -> str:
    """Say why no file can be put at `path`, or return nothing."""
    if path.is_dir():
        return "is a folder"
    if not path.parent.is_dir():
        return f"is in {path.parent}, which does not exist"
    # root could replace /dev/null by a file.
    return "is not a regular file" if path.exists() and not path.is_file() else ""


@dataclass
class _Round:
    """One look at all hosts: what was found so far, for the live table."""

    selection: Selection
    found: dict[str, Status] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the rows of the hosts that have answered, and of those that have not."""
        with self.lock:
            found = dict(self.found)
        rows = []
        for host in self.selection.hosts:
            status = found.get(host.name)
            rows.append(row(status) if status else (host.name, _PENDING, *[""] * (len(COLUMNS) - 2)))
        return rows


def status(words: str, *, as_json: bool, watch: bool, every: float, targets: Targets) -> int:
    """Show the state of each host. With `watch`, again every so many seconds until Ctrl-C.

    Return 1 if a host has an error or needs a person, else 0.
    """
    if not watch:
        return _once(chosen(words), as_json=as_json, targets=targets)
    positive("--every", every)
    try:
        while not screen().deserted:
            begun = time.monotonic()
            _once(chosen(words), as_json=as_json, targets=targets, redraw=True)
            time.sleep(max(0.0, begun + every - time.monotonic()))
    except KeyboardInterrupt:
        pass
    return 0


def _once(selection: Selection, *, as_json: bool, targets: Targets, redraw: bool = False) -> int:
    from swarm.fleet.gather import Gatherer, remember, timers_of

    now, looks = time.time(), _Round(selection)
    litellm = _Litellm()
    with Gatherer(timers_of([host.name for host in selection.hosts]), keep=redraw) as gatherer:
        live = screen().lively(quiet=as_json or redraw, columns=COLUMNS)
        with live as show:

            def one(host: Host, _: Talk) -> Status:
                found = gatherer.look(host, now)
                with looks.lock:
                    looks.found[host.name] = found
                show(looks.rows)
                return found

            show(looks.rows)
            outcomes = run(selection, one, quiet=as_json, at_once=_AT_ONCE)
        ready = litellm.ready()
    todo = _todo(outcomes)
    needy = {each.host for each in todo}
    for each in outcomes:
        if each.result:
            remember(each.result, now, well=each.name not in needy)
    _write(outcomes, [*todo, *litellm.actions()], targets, now, litellm=ready)
    if redraw and not as_json:
        screen().clear()
    code = render(
        outcomes,
        as_json=as_json,
        data=lambda all_: [*(_data(each, todo) for each in all_), *litellm.to_json()],
        table=lambda all_: _table(all_, todo, litellm),
    )
    return code or int(bool(todo) or ready is False)


def _todo(outcomes: Sequence[Outcome[Status]]) -> list[Action]:
    found: list[Action] = []
    for each in outcomes:
        found += actions(each.result) if each.result else []
        found += [failed(each.name, each.error)] if each.error else []
    return found


def _data(outcome: Outcome[Status], todo: Sequence[Action]) -> dict[str, object]:
    own = [{"what": each.what, "command": each.command} for each in todo if each.host == outcome.name]
    return {**outcome.to_json(), "actions": own}


def _table(outcomes: Sequence[Outcome[Status]], todo: Sequence[Action], litellm: _Litellm) -> None:
    unknown = ("✗ unknown", *[""] * (len(COLUMNS) - 2))
    rows = [row(each.result) if each.result else (each.name, *unknown) for each in outcomes]
    screen().table(*shown(rows))
    if litellm.words:
        screen().data(escape(f"{_LITELLM}: {litellm.words}"))
    for each in todo:
        screen().data(f"[red]{escape(each.host)}:[/] {escape(each.what)} → {escape(each.command)}")


def _write(
    outcomes: Sequence[Outcome[Status]],
    todo: Sequence[Action],
    targets: Targets,
    now: float,
    *,
    litellm: bool | None,
) -> None:
    found = [each.result for each in outcomes if each.result]
    errors = [each.name for each in outcomes if each.error]
    if targets.prometheus:
        from swarm.fleet.metrics import metrics

        _put(targets.prometheus, metrics(found, errors, now, litellm=litellm))
    if targets.html:
        from swarm.fleet.page import page

        _put(targets.html, page(found, errors, todo, now, litellm=litellm))


def _put(path: Path, text: str) -> None:
    """Write a file that everybody may read, as far as the umask allows."""
    mask = os.umask(0o077)
    os.umask(mask)
    text = text.encode("utf-8", "backslashreplace").decode()  # a host file's name may be no valid UTF-8
    target = Path(os.path.realpath(path))  # a link, such as /dev/stdout, stays a link
    write_atomically(target, text, mode=0o644 & ~mask)


class _Litellm:
    """Whether LiteLLM of this machine is ready, asked while the hosts answer. Nothing is asked if it is not set up."""

    def __init__(self) -> None:
        from swarm.litellm.environment import env_file

        self.words = ""
        self._ready: bool | None = None
        self._error: dict[str, str] | None = None
        self._begun = self._ended = time.monotonic()
        self._thread = threading.Thread(target=self._ask, daemon=True) if env_file().exists() else None
        if self._thread:
            self._thread.start()

    def ready(self) -> bool | None:
        """Wait for the answer, and return it. None: LiteLLM is not set up here."""
        if self._thread:
            self._thread.join()
        return self._ready

    def actions(self) -> list[Action]:
        """Return what a person must do about LiteLLM."""
        return [Action(_LITELLM, self._error["message"], self._error["hint"])] if self._error else []

    def to_json(self) -> list[dict[str, object]]:
        """Return the answer as an item like that of a host, or no item if LiteLLM is not set up here."""
        if self._ready is None:
            return []
        took, error = round(self._ended - self._begun, 3), self._error
        actions = [{"what": each.what, "command": each.command} for each in self.actions()]
        return [{"host": _LITELLM, "ready": self._ready, "seconds": took, "error": error, "actions": actions}]

    def _ask(self) -> None:
        from swarm.litellm import client, environment, health

        try:
            settings = environment.read()
            with client.client(settings) as session:
                sample = health.look(session, 0.0)
        except SwarmError as error:
            self._fail(error.message, error.hint or "./inv litellm.status")
            return
        if sample.alive and sample.ready:
            self._ready, self.words, self._ended = True, f"ready at {settings.url}", time.monotonic()
        else:
            reason = sample.error or f"database {sample.database or 'unknown'}"
            self._fail(f"not ready ({reason})", "./inv litellm.health")

    def _fail(self, message: str, hint: str) -> None:
        self._ready, self.words, self._ended = False, f"✗ {message} → {hint}", time.monotonic()
        self._error = {"message": message, "hint": hint}
