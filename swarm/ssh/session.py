"""One OpenSSH process on the kept control connection, with limits on everything that the guest sends back.

The script travels on standard input, so no process list shows it. It runs only if it arrived completely: it
is one shell function, called on the last line. Two marks enclose the output on both streams, so a .bashrc
that prints, or a login shell of another kind, changes nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swarm.errors import Unfit
from swarm.ssh.reasons import Ending
from swarm.text import quote

if TYPE_CHECKING:
    from typing import IO

__all__ = ["Limits", "Session", "surroundings"]

_CHUNK = 1 << 16  # bytes of one read: what a pipe holds
_START = 60.0  # seconds from connecting to the script's first line; an emulated guest needs ten
_MESSAGES = 1 << 14  # bytes of ssh's own messages that are kept, from the end
_CODE = re.compile(rb" end (\d{1,3})\Z")
_WAKE = 1.0  # seconds of one wait: if another thread closes the pipes meanwhile, nothing ends it
_CLOSING = 2.0  # seconds that ssh has to exit after the script has ended


def surroundings() -> dict[str, str]:
    """Return the environment for ssh. It runs a ProxyCommand with SHELL, and ours are written for sh."""
    return {**os.environ, "SHELL": "/bin/sh"}


@dataclass(frozen=True)
class Limits:
    """How long a conversation with a guest may take, and how much it may send. Beyond that, the connection is closed.

    `total` and `silence` are in seconds: for the whole conversation, and without a single byte. `line` and
    `output` are in bytes: of one line, and of everything. The guest sends a sign of life every 15 s while a
    step works or waits.
    """

    total: float = 900.0
    silence: float = 120.0
    line: int = 1 << 20
    output: int = 16 << 20


class Stream:
    """One of the two output streams: cuts out, line by line, what stands between the marks."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self.rest = bytearray()  # the line that is not complete yet
        self.messages = b""  # what came before the first mark
        self.begun = False
        self.ended: bytes | None = None  # the line of the closing mark

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they arrive, and return the complete lines of output in them, without their newlines."""
        self.rest += data
        if b"\n" not in data:
            return []
        *lines, rest = bytes(self.rest).split(b"\n")
        self.rest = bytearray(rest)
        found, early = [], []
        for line in lines:
            if line.startswith(self._mark):
                self._heed(line[len(self._mark) :])
            elif self.begun and self.ended is None:
                found.append(line)
            elif not self.begun:
                early.append(line + b"\n")
        if early:
            self.messages = (self.messages + b"".join(early))[-_MESSAGES:]
        return found

    def _heed(self, words: bytes) -> None:
        if words == b" begin":
            self.begun = True
        elif self.begun and self.ended is None:
            self.ended = words


class Session:
    """An ssh process that waits for a script on its standard input. Given the complete command line."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        variables = {**surroundings(), **(environment or {})}
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=pipe, env=variables, bufsize=0
            )
        except FileNotFoundError:
            raise Unfit("the program ssh is missing", "apt-get install openssh-client") from None
        self.started = False
        self.code: int | None = None  # the script's exit code, once it is known
        self._exceeded = ""

    @property
    def pid(self) -> int:
        """The process ID of ssh."""
        return self._process.pid

    def send(self, script: str, limits: Limits, *, merged: bool) -> None:
        """Prepare to send `script`, with its two output streams `merged` or apart. It leaves with the first read."""
        mark = f"\x1e{os.urandom(12).hex()}"
        self._limits, self._spent, self._merged = limits, 0, merged
        self._begun = self._heard = time.monotonic()
        self._pending = memoryview(_wrap(script, mark, merged=merged))
        self._out, self._err = Stream(mark.encode()), Stream(mark.encode())
        self._selector = selectors.DefaultSelector()
        for stream, event in (
            (self._stdin, selectors.EVENT_WRITE),
            *((each, selectors.EVENT_READ) for each in self._outputs),
        ):
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, event)

    def read(self) -> tuple[list[bytes], list[bytes]]:
        """Return the next lines of output and of error output, without their newlines; nothing at all when it is over.

        `code` then holds the script's exit code. Where it is None, `ending()` says what happened instead.
        """
        while True:
            if self._over():
                return [], []
            if (wait := self._patience()) <= 0:
                self.kill()
                return [], []
            found: tuple[list[bytes], list[bytes]] = ([], [])
            for key, _ in self._selector.select(min(wait, _WAKE)):
                if key.fileobj is self._stdin:
                    self._write()
                else:
                    number = 0 if key.fileobj is self._outputs[0] else 1
                    found[number].extend(self._receive(self._outputs[number], (self._out, self._err)[number]))
            self._check_size()
            if found[0] or found[1]:
                return found

    def ending(self) -> Ending:
        """Return how the conversation ended, once read() has returned nothing and there is no exit code."""
        code = self._process.wait()
        messages = (self._err.messages + self._err.rest)[-_MESSAGES:] or (
            b"" if self._err.begun else self._out.messages
        )
        left = self._begun + self._limits.total - time.monotonic()
        return Ending(code, messages.decode("utf-8", "replace"), self.started, self._exceeded, left)

    def kill(self) -> None:
        """End the process and close its pipes. Safe to call again."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        for stream in (self._stdin, *self._outputs):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        if selector := getattr(self, "_selector", None):
            selector.close()

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None  # noqa: S101 - a pipe, as asked for above
        return self._process.stdin

    @property
    def _outputs(self) -> tuple[IO[bytes], IO[bytes]]:
        process = self._process
        assert process.stdout is not None  # noqa: S101 - both are pipes
        assert process.stderr is not None  # noqa: S101
        return process.stdout, process.stderr

    def _over(self) -> bool:
        """Whether there is nothing more to read: the script has ended, or ssh has."""
        if self._exceeded or not self._selector.get_map():
            return True
        self.started = self.started or self._out.begun
        if self._out.ended is None or (self._err.ended is None and not self._merged):
            # ssh may be gone while a process that it left behind still holds a pipe.
            return self._process.poll() is not None and not self._selector.select(0)
        if match := _CODE.fullmatch(self._out.ended):
            self.code = int(match[1])
        else:
            self._exceeded = "received a malformed answer from the guest"
        self._finish()
        return True

    def _finish(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_CLOSING)
        self.kill()

    def _patience(self) -> float:
        """Seconds until the next limit; at or below zero, `_exceeded` says which one was reached."""
        now, limits = time.monotonic(), self._limits
        waits = [
            (self._begun + limits.total - now, f"timed out after {limits.total:.0f} s"),
            (self._heard + limits.silence - now, f"no answer for {limits.silence:.0f} s"),
        ]
        if not self.started:
            waits.append((self._begun + _START - now, f"the command did not start within {_START:.0f} s"))
        left, words = min(waits, key=lambda each: each[0])  # the first one if two end together
        if left <= 0:
            self._exceeded = words
        return left

    def _receive(self, pipe: IO[bytes], stream: Stream) -> list[bytes]:
        try:
            data = os.read(pipe.fileno(), _CHUNK)
        except BlockingIOError:
            return []
        if not data:
            self._selector.unregister(pipe)
            return []
        self._heard = time.monotonic()
        self._spent += len(data)
        return stream.feed(data)

    def _check_size(self) -> None:
        limits = self._limits
        if self._spent > limits.output:
            self._exceeded = f"the guest sent more than {limits.output >> 20} MiB"
        elif max(len(self._out.rest), len(self._err.rest)) > limits.line:
            self._exceeded = f"the guest sent a line of more than {limits.line >> 10} KiB"
        if self._exceeded:
            self.kill()

    def _write(self) -> None:
        try:
            self._pending = self._pending[os.write(self._stdin.fileno(), self._pending[:_CHUNK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # ssh has ended; its messages tell why
            self._pending = self._pending[:0]
        if not self._pending:
            self._selector.unregister(self._stdin)
            with contextlib.suppress(BrokenPipeError):
                self._stdin.close()


def _wrap(script: str, mark: str, *, merged: bool) -> bytes:
    """Return the script as a function, so that a shell that received only half of it runs nothing."""
    # On a line of its own: what a .bashrc printed before may lack its newline.
    begin = f"printf '\\n%s\\n' {quote(f'{mark} begin')}"
    end = f"printf '\\n%s %s\\n' {quote(f'{mark} end')} \"$code\""
    lines = (
        f"swarm_script() {{\n(\n:\n{script}\n)\n}}",
        "exec 2>&1" if merged else f"{begin} >&2",
        begin,
        "swarm_script </dev/null",
        "code=$?",
        end if merged else f"{end} >&2\n{end}",
        "exit 0\n",
    )
    return "\n".join(lines).encode("utf-8", "surrogateescape")
