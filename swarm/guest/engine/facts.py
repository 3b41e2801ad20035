"""A reader that is fed a script's output line by line and keeps the facts. Everything a guest sends is checked here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from swarm.errors import CommandFailed
from swarm.guest.engine.script import mark_for, of_reader, readers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from swarm.guest.engine.step import Step

__all__ = ["FactReader", "number"]

_FACT = 1 << 20  # bytes of one fact; the largest usual one is a keyring of 100 KiB in base64
_TOTAL = 8 << 20  # bytes of all facts of a conversation


def number(word: bytes) -> int | None:
    """Return a decimal number of at most six digits, or None if `word` is something else."""
    return int(word) if re.fullmatch(rb"[0-9]{1,6}", word) else None


def _ignore(_line: bytes) -> None:
    return None


class FactReader:
    """Reads the output of probes(). `other` is given each line that belongs to no fact, in order.

    take() and facts() raise CommandFailed for an answer that probes() cannot have given, for one that is too large, and
    for a probe that failed.
    """

    def __init__(
        self, host: str, steps: Sequence[Step], mark: str, other: Callable[[bytes], None] = _ignore
    ) -> None:
        self._host, self._steps, self._other = host, steps, other
        self._own, self._readers = of_reader(steps), readers(steps)
        self._mark, self._plain = f"{mark} ".encode(), mark
        self._beat = f"{mark} beat".encode()
        self._cut = bytearray()  # the part of a line before a sign of life
        self._next = 0  # the number of the question that is answered now, or next
        self._open = False
        self._text = bytearray()
        self._left = _TOTAL
        self._nested: FactReader | None = None
        self._found: dict[str, str] = {}

    def take(self, line: bytes) -> None:
        """Take the next line of output, without its newline."""
        if line.endswith(self._beat):  # another process wrote it, perhaps in the middle of a line
            self._cut += line.removesuffix(self._beat)
            self._bound(len(self._cut), _FACT)
            return
        if self._cut:
            line = bytes(self._cut) + line
            self._cut.clear()
        if line.startswith(self._mark):
            self._marked(line, line.removeprefix(self._mark).split())
        elif self._open:
            self._more(line)
        else:
            self._other(line)

    def facts(self) -> dict[str, str]:
        """Return each step's fact by its subject; to be called after the last line."""
        if self._open:
            raise CommandFailed(f"{self._host}: reading {self._asked} failed: its probe ended the shell")
        if len(self._found) != len(self._steps):
            raise CommandFailed(
                f"{self._host}: received only {len(self._found)} of {len(self._steps)} answers",
                "find out on the host whether another run is at work and whether /run is full",
            )
        return self._found

    @property
    def _asked(self) -> str:
        """What the present question is about."""
        own = len(self._own)
        if self._next < own:
            return self._own[self._next].subject
        return f"what {self._readers[self._next - own]} has"

    def _marked(self, line: bytes, words: list[bytes]) -> None:
        if words[:1] == [b"fact"]:
            self._begin(words[1:])
        elif words[:1] == [b"done"]:
            self._end(words[1:])
        elif not self._open:
            self._other(line)
        elif self._nested and words == [b"no-user"]:
            self._unread()
        else:
            raise self._unexpected()

    def _begin(self, words: list[bytes]) -> None:
        known = range(len(self._own) + len(self._readers))
        if self._open or self._next not in known or words != [b"%d" % self._next]:
            raise self._unexpected()
        self._open, self._text = True, bytearray()
        if self._next >= len(self._own):
            reader = self._readers[self._next - len(self._own)]
            mark = mark_for(reader, self._plain)
            self._nested = FactReader(self._host, of_reader(self._steps, reader), mark)

    def _more(self, line: bytes) -> None:
        self._left -= len(line) + 1
        self._bound(-self._left, 0)
        if self._nested:
            self._nested.take(line)
        else:
            self._text += line + b"\n"
            self._bound(len(self._text), _FACT)

    def _unread(self) -> None:
        reader = self._readers[self._next - len(self._own)]
        self._nested = None
        self._found |= {step.subject: step.unread for step in self._steps if step.reader == reader}

    def _end(self, words: list[bytes]) -> None:
        code = number(words[0]) if len(words) == 1 else None
        if not self._open or code is None:
            raise self._unexpected()
        if code:
            raise CommandFailed(f"{self._host}: reading {self._asked} failed with exit code {code}")
        if self._nested:
            self._found |= self._nested.facts()
        elif self._next < len(self._own):
            # One newline is there to put the mark on a line of its own; one at the fact's end does not count.
            text = bytes(self._text).removesuffix(b"\n").removesuffix(b"\n")
            self._found[self._asked] = text.decode("utf-8", "surrogateescape")
        self._open, self._nested, self._next = False, None, self._next + 1

    def _bound(self, size: int, limit: int) -> None:
        if size > limit:
            raise CommandFailed(f"{self._host}: the answer about {self._what} is too large")

    @property
    def _what(self) -> str:
        return self._asked if self._open else "nothing that was asked"

    def _unexpected(self) -> CommandFailed:
        return CommandFailed(f"{self._host}: received an unexpected answer from the guest")
