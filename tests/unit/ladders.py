"""Guests as data, and ladders that wait for them."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from invoke.runners import Result
from rich.console import Console

from swarm.console import Meter, Screen, Talk
from swarm.deadline import Deadline
from swarm.errors import SwarmError
from swarm.vm.ladder import Ladder

if TYPE_CHECKING:
    from collections.abc import Callable

    from swarm.ssh.guest import Guest


CONSOLE = [f"line {number}" for number in range(10)]


SHARE = ("swarm", "/mnt/swarm")


@dataclass
class Answers:
    """A guest as data: each command takes the next answer, an error to raise or an output. The last one stays."""

    answers: list[str | SwarmError]
    alias: str = "zap"
    asked: list[tuple[str, float]] = field(default_factory=list)
    renewed: int = 0

    def renew(self) -> None:
        """Count the requests for a new connection."""
        assert not self.asked
        self.renewed += 1

    def run(self, command: str, *, hide: bool, warn: bool, timeout: float) -> Result:
        """Answer like Guest.run(), but show nothing and raise for no exit code."""
        assert hide
        assert warn
        self.asked.append((command, timeout))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, SwarmError):
            raise answer
        return Result(stdout=answer)


def ladder_of(
    *answers: str | SwarmError,
    state: Callable[[], str] = lambda: "running",
    console: list[str] = CONSOLE,
    share: tuple[str, str] | None = SHARE,
    limit: float = 3600,
    first_boot: bool = True,
    patience: float = 90,
    starting: float = 5,
) -> tuple[Ladder, Answers]:
    """Return a ladder for a guest with these answers, and the guest."""
    guest = Answers([*answers] or [""])
    deadline = Deadline(limit)
    ladder = Ladder(
        cast("Guest", guest),
        user="root",
        state=state,
        console=lambda: console,
        share=share,
        deadline=deadline,
        first_boot=first_boot,
        patience=patience,
        starting=starting,
    )
    return ladder, guest


def talk() -> tuple[Talk, io.StringIO]:
    """Return a talk that writes to a log, and the log."""
    screen, text = Screen(), io.StringIO()
    screen.err = Console(file=text, soft_wrap=True, highlight=False)
    return Talk(screen), text


def notes() -> tuple[Meter, list[str]]:
    """Return a meter, and the list of notes that it receives."""
    found: list[str] = []
    return Meter(lambda **fields: found.append(fields["note"])), found


DONE = json.dumps({"v1": {"errors": []}})
