"""A reporter that is fed a script's output line by line, shows each step as it runs, and explains a failure."""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from swarm.errors import CommandFailed
from swarm.guest.engine.facts import number
from swarm.guest.engine.script import LOCK_BUSY, LOCK_FAILED, LOCK_WAIT
from swarm.guest.engine.shown import brief

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from swarm.console import Talk

__all__ = ["Reporter"]

_TAIL = 12  # lines of a failed step's output that its error shows
_NOTE = 100  # characters of a line beside a running step


class Reporter:
    """Follows the output of changes(). A context manager: a step that still runs at its end is not shown as done.

    `subjects` are the steps of the script, `hidden` the secrets. Without `talk` it only checks what it is given.
    """

    def __init__(
        self, host: str, subjects: Sequence[str], mark: str, talk: Talk | None, hidden: Sequence[str] = ()
    ) -> None:
        self._host, self._subjects, self._talk, self._hidden = host, subjects, talk, hidden
        self._mark = f"{mark} ".encode()
        self._running = ExitStack()
        self._note: Callable[[str], None] | None = None
        self._next = 0  # the number of the step that runs now, or next
        self._tail: deque[str] = deque(maxlen=_TAIL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.__exit__(kind, error, trace)

    @property
    def current(self) -> str | None:
        """The subject of the running step, or None."""
        return self._subjects[self._next] if self._note else None

    def take(self, line: bytes) -> None:
        """Take one line. Raise CommandFailed if it is a mark that changes() cannot have printed."""
        if line.startswith(self._mark):
            self._marked(line.removeprefix(self._mark).split())
        elif line.strip():
            text = line.decode("utf-8", "replace").rstrip()
            self._tail.append(brief(text, self._hidden))
            if self._note:
                self._note(brief(text.strip(), self._hidden, longest=_NOTE))

    def judge(self, code: int) -> None:
        """Raise the CommandFailed that the script's exit code stands for, unless it is 0."""
        if code == LOCK_BUSY:
            raise CommandFailed(
                f"{self._host}: an earlier run still holds the host after {LOCK_WAIT} s",
                "find the process that hangs on the host: ps -ef --forest",
            )
        if code == LOCK_FAILED:
            raise CommandFailed(
                f"{self._host}: cannot take the lock in /run", "check on the host: df -h /run"
            )
        if code and self._note:
            output = "\n".join(f"    {line}" for line in self._tail) or "    (it printed nothing)"
            raise CommandFailed(
                f"{self._host}: {self.current} failed:\n{output}",
                "fix the cause and run the same command again: it continues with this step",
            )
        if code:
            message = f"{self._host}: the host could not run the script (exit code {code})"
            raise CommandFailed(message, "\n".join(self._tail) or None)

    def _marked(self, words: list[bytes]) -> None:
        match words:
            case [b"busy"]:
                if self._talk:
                    self._talk.say("waiting: an earlier run is still finishing a step on this host")
            case [b"begin", index] if not self._note and number(index) == self._next < len(self._subjects):
                self._begin()
            case [b"end", index, code] if self._note and number(index) == self._next:
                self._end(code)
            case _:
                raise CommandFailed(f"{self._host}: received an unexpected answer from the guest")

    def _begin(self) -> None:
        self._tail.clear()
        self._note = _ignore
        if self._talk:
            self._note = self._running.enter_context(self._talk.step(self._subjects[self._next])).note

    def _end(self, code: bytes) -> None:
        if code == b"0":  # otherwise the script ends now, and judge() explains the step's failure
            self._running.close()
            self._note = None
            self._next += 1


def _ignore(_text: str) -> None:
    return None
