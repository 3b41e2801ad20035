"""One script and what the guest answers to it. A kept connection that turns out to be stale is replaced once.

Neither Fabric nor Invoke is imported here, so a script can be on its way before either is loaded.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from swarm.errors import CommandFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from swarm.ssh.link import Link
    from swarm.ssh.session import Limits

__all__ = ["WAKE", "Conversation", "Ended", "Running"]

WAKE = 0.2  # seconds of one wait for the reading thread; between two, Ctrl-C reaches hosts side by side


class Conversation:
    """A script that is sent over a Link, by the thread that calls read(). Its two output streams are `merged` or apart.

    Raise UsageError without an SSH configuration, Unfit without ssh.
    """

    def __init__(self, link: Link, script: str, limits: Limits, *, merged: bool) -> None:
        self._link, self._script, self._limits, self._merged = link, script, limits, merged
        self._over = threading.Event()
        self._kept = link.control_path.exists()
        self._session = link.take()
        self._send()

    @property
    def code(self) -> int | None:
        """The script's exit code, or None while it is unknown."""
        return self._session.code

    @property
    def pid(self) -> int:
        """The process ID of ssh."""
        return self._session.pid

    def read(self) -> tuple[list[bytes], list[bytes]]:
        """Return the next lines of output and of error output, without their newlines; nothing at all when it is over.

        Raise Unreachable if the connection fails, CommandFailed if a limit is exceeded.
        """
        while not self._over.is_set():
            lines, errors = self._session.read()
            if lines or errors:
                return lines, errors
            if not self._again():
                break
        return [], []

    def kill(self) -> None:
        """End the process of ssh; read() then says that the connection broke."""
        self._session.kill()

    def end(self) -> None:
        """End the conversation, now or because it is over; read() then returns nothing. Safe to call again."""
        self._over.set()
        self._session.kill()

    def _send(self) -> None:
        self._session.send(self._script, self._limits, merged=self._merged)

    def _again(self) -> bool:
        """Return whether the conversation goes on. A kept connection may be stale, so a new one is tried once."""
        session = self._session
        if session.code is not None or self._over.is_set():
            return False
        ending = session.ending()
        error = self._link.explain(ending)
        if ending.limit:
            self._link.close()  # the guest may still be sending
        if not self._kept or session.started or isinstance(error, CommandFailed):
            raise error
        self._kept = False
        session.kill()
        self._link.close()
        self._session = self._link.session()
        self._send()
        if self._over.is_set():  # another thread has ended it meanwhile, perhaps only the old session
            self._session.kill()
        return not self._over.is_set()


class Ended(NamedTuple):
    """The end of a script."""

    exited: int

    @property
    def ok(self) -> bool:
        """Whether the script succeeded."""
        return self.exited == 0


class Running:
    """A script on its way. A thread of its own gives each line of both output streams to `take`, and keeps none.

    Raise as Conversation does.
    """

    def __init__(self, link: Link, script: str, take: Callable[[bytes], None], limits: Limits) -> None:
        self._take, self._blank = take, False
        self._finished = threading.Event()
        self._failure: BaseException | None = None
        self._conversation = Conversation(link, script, limits, merged=True)
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def finished(self) -> bool:
        """Whether the script has ended."""
        return self._finished.is_set()

    def join(self) -> Ended:
        """Wait for the end. Raise what `take` raised, Unreachable, or CommandFailed if a limit is exceeded.

        Ctrl-C ends the conversation. A running step finishes on its own.
        """
        try:
            while not self._finished.wait(WAKE):
                pass
        finally:
            self._conversation.end()
        if self._failure is not None:
            raise self._failure
        code = self._conversation.code
        assert code is not None  # noqa: S101 - read() returned nothing and raised nothing
        return Ended(code)

    def kill(self) -> None:
        """Give the script up."""
        self._conversation.kill()

    def _read(self) -> None:
        """Read to the end. This thread moves everything: the script, both streams, and the limits."""
        try:
            while True:
                lines, errors = self._conversation.read()
                if not lines and not errors:
                    break
                self._hand_over(lines)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._failure = error
        self._conversation.end()
        self._finished.set()

    def _hand_over(self, lines: list[bytes]) -> None:
        """Give lines to `take`. An empty one is held back: one precedes the closing mark and is not output."""
        for line in lines:
            if self._blank:
                self._take(b"")
            self._blank = not line
            if line:
                self._take(line)
