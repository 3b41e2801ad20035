"""`denoise.py MARK COMMAND...`: run COMMAND, and drop what it prints before the line MARK.

rsync calls ssh through this if the guest's login prints before it runs a command. This process becomes COMMAND, so
COMMAND gets standard input and signals directly, and its exit code is not changed. A child process filters the output,
and becomes cat after the mark.
"""

from __future__ import annotations

import os
import signal
import sys

__all__ = ["main"]

_NOISE = 1 << 16  # bytes before the mark; if there are more, everything is passed on, and the reader fails


def main(mark: str, *command: str) -> None:
    """Become `command`, with a child process that filters its output. Raise OSError if there is no such program."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(writing)
        os.dup2(reading, 0)
        _filter(f"\n{mark}\n".encode())
    os.dup2(writing, 1)
    os.execvp(command[0], command)  # noqa: S606 - a list of arguments


def _filter(mark: bytes) -> None:
    """Copy what follows the mark in standard input to standard output. Do not return."""
    # rsync and Python ignore this signal. Without a reader, end silently.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.set_blocking(1, True)  # rsync hands over a socket that is not; cat would fail
    rest = memoryview(_rest(mark))
    while rest:
        rest = rest[os.write(1, rest) :]
    os.execlp("cat", "cat")  # noqa: S606 - as above


def _rest(mark: bytes) -> bytes:
    """Read until the mark. Return what was read after it, or everything if more than the limit comes first.

    Return nothing if the input ends before the mark.
    """
    found = b"\n"  # the mark may be the first line
    limit = len(found) + _NOISE + len(mark)
    while len(found) < limit:
        data = os.read(0, _NOISE)
        if not data:
            return b""
        found += data
        begin = found.find(mark, 0, limit)
        if begin >= 0:
            return found[begin + len(mark) :]
    return found[1:]


if __name__ == "__main__":
    main(*sys.argv[1:])
