"""One health run: look, restart what is dead, remove copies, show cooldowns, and write a line to the log."""

from __future__ import annotations

import json
import logging
import os
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from swarm.deadline import Deadline
from swarm.errors import RemoteError, SwarmError
from swarm.files import private_dir, write_atomically
from swarm.litellm import dedup, explain
from swarm.litellm.apply import exclusive
from swarm.litellm.health import History, judge, look, may_restart, parse_times
from swarm.litellm.runner import Foreign
from swarm.locks import hold
from swarm.paths import state_dir
from swarm.text import visible

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.console import Talk
    from swarm.litellm.client import Client
    from swarm.litellm.explain import Advice
    from swarm.litellm.health import Finding
    from swarm.litellm.runner import Runner

__all__ = ["Report", "Settings", "log_file", "run"]

_LOG_SIZE, _LOGS = 1024 * 1024, 4  # bytes of a log, and how many older ones are kept
_MINUTES = (
    10  # of the proxy's log that are searched for cooldowns; LiteLLM's default cooldown takes 5 seconds
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How patient a health run is, in seconds, and whether it removes copies."""

    grace: float = 60.0
    start: float = 300.0  # that a restarted proxy may take; 28 are usual, and migrations come on top
    dedup: bool = True
    pause: float = 5.0
    patience: float = (
        60.0  # with another command that changes models, before copies are left for the next run
    )


@dataclass
class Report:
    """The outcome of a health run."""

    finding: Finding
    restarted: bool = False
    alarm: str | None = None
    hint: str | None = None
    deleted: int = 0
    advice: list[Advice] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 if LiteLLM is healthy at the end, else 1."""
        return int(self.alarm is not None)

    @property
    def summary(self) -> str:
        """The outcome in one line."""
        parts = [self.alarm or self.finding.sentence]
        parts += ["restarted"] if self.restarted else []
        parts += [f"{self.deleted} copies removed"] if self.deleted else []
        parts += [f"{len(self.advice)} in cooldown"] if self.advice else []
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {
            "state": self.finding.state,
            "healthy": self.alarm is None,
            "restarted": self.restarted,
            "alarm": self.alarm,
            "hint": self.hint,
            "deleted": self.deleted,
            "cooldowns": [vars(each) for each in self.advice],
            "notes": self.notes,
        }


def run(client: Client, runner: Runner, settings: Settings, talk: Talk) -> Report:
    """Check the proxy once, and repair what a restart or the removal of copies can repair. Append a line to the log."""
    private_dir(state_dir())
    with hold(
        state_dir() / "litellm-health.lock", waiting=lambda: talk.step("waiting for another health run")
    ):
        report = _checked(client, runner, settings, talk)
        if report.alarm is None:
            _tidy(client, runner, settings, talk, report)
        _log(report)
    return report


def log_file() -> Path:
    """Return the path of the log of health runs."""
    return state_dir() / "litellm-maintenance.log"


def _checked(client: Client, runner: Runner, settings: Settings, talk: Talk) -> Report:
    with talk.step("asking LiteLLM how it is", silent=True) as meter:
        sample = look(client, settings.grace, pause=settings.pause, note=meter.note)
    healthy = sample.alive and sample.ready
    finding = judge(sample, None if healthy else runner.database_answers())
    if healthy:
        _save(History())
        return Report(finding)
    if not finding.restart:
        return Report(finding, alarm=finding.sentence, hint=finding.hint)
    if isinstance(runner, Foreign):  # no restart is attempted, so none may count as one that did not help
        return Report(
            finding, alarm=f"{finding.sentence}, and swarm does not run it",
            hint="restart it where it runs; ./inv litellm.up starts swarm's own",
        )  # fmt: skip
    history, now = _load(), datetime.now(UTC)
    if left := may_restart(history, now):
        last = history.restarts[-1].astimezone()
        minutes = max(1, round(left.total_seconds() / 60))
        return Report(
            finding,
            alarm=f"{finding.sentence}. A restart at {last:%H:%M} did not help, the next is due in {minutes} min",
            hint="./inv litellm.logs shows LiteLLM's own errors; ./inv litellm.doctor MODEL checks its settings",
        )
    return _restart(client, runner, settings, talk, finding, history)


def _restart(
    client: Client, runner: Runner, settings: Settings, talk: Talk, finding: Finding, history: History
) -> Report:
    # Recorded first: a run that is killed during the restart must not make the next one restart again.
    _save(History((*history.restarts, datetime.now(UTC))))
    talk.say(f"{finding.sentence}: restarting it")
    try:
        with talk.step(f"restarting LiteLLM with {runner.name}") as meter:
            runner.restart()
            sample = look(client, settings.start, pause=settings.pause, note=meter.note)
    except SwarmError as error:
        return Report(
            finding, alarm=f"{finding.sentence}, and the restart failed: {error.message}", hint=error.hint
        )
    if sample.alive and sample.ready:
        _save(History())
        return Report(judge(sample, None), restarted=True)
    return Report(
        finding, restarted=True, alarm=f"{finding.sentence}, and a restart did not help",
        hint="./inv litellm.logs shows LiteLLM's own errors",
    )  # fmt: skip


def _tidy(client: Client, runner: Runner, settings: Settings, talk: Talk, report: Report) -> None:
    """Remove copies and collect cooldowns. LiteLLM is healthy: what fails here is a note."""
    try:
        if settings.dedup:
            _remove_copies(client, settings, talk, report)
        rows = client.rows()  # without the copies that are gone
        ids = {row.id for row in rows}
        found = [each for each in explain.cooldowns(runner.recent(_MINUTES)) if ids.intersection(each.ids)]
        report.advice = [explain.about_cooldown(each, rows) for each in found]
    except (RemoteError, SwarmError) as error:
        report.notes.append(error.message)


def _remove_copies(client: Client, settings: Settings, talk: Talk, report: Report) -> None:
    try:
        with exclusive(talk, Deadline(settings.patience)):
            verdict = dedup.inspect(client, talk).proved
            report.notes += verdict.uncertain
            report.deleted = dedup.dedup(client, verdict, talk) if verdict.groups else 0
    except TimeoutError:  # it may be a question that nobody answers, and LiteLLM must be checked again
        report.notes.append(
            "no copies were searched for, because another command is changing LiteLLM's models"
        )


def _state() -> Path:
    return state_dir() / "litellm-health.json"


def _load() -> History:
    try:
        data = json.loads(_state().read_text(encoding="utf-8"))
        return _until(datetime.now(UTC), History(parse_times(data["restarts"])))
    except FileNotFoundError:
        return History()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        # Unreadable: behave as if LiteLLM had just been restarted, so that no run can restart it in a loop.
        history = History((datetime.now(UTC),))
        _save(history)
        return history


def _until(now: datetime, history: History) -> History:
    """Move restarts of the future, which a wrong clock has left, to now. They would block others until their time."""
    if any(time > now for time in history.restarts):
        history = History(tuple(min(time, now) for time in history.restarts))
        _save(history)  # else they would move on with each run
    return history


def _save(history: History) -> None:
    data = {"restarts": [time.isoformat() for time in history.restarts]}
    text = json.dumps(data) + "\n"
    try:
        if _state().read_text(encoding="utf-8") == text:
            return
    except (OSError, ValueError):
        pass
    write_atomically(_state(), text, mode=0o600)


def _log(report: Report) -> None:
    """Append one line to the log, which is rotated."""
    from logging.handlers import RotatingFileHandler

    path = log_file()
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    with closing(
        RotatingFileHandler(path, maxBytes=_LOG_SIZE, backupCount=_LOGS, encoding="utf-8")
    ) as handler:
        words = "alarm" if report.alarm else report.finding.state
        line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {words}: {visible(report.summary, lines=False)}"
        handler.emit(logging.LogRecord("swarm", logging.INFO, "", 0, line, None, None))
    path.chmod(0o600)  # a rotation makes the file anew
