"""What becomes of stdout once its reader has closed it."""

from __future__ import annotations

import os
import select

__all__ = ["drop_output", "reader_gone"]


def reader_gone() -> bool:
    """Return whether the reader of stdout has closed it. A broken connection, a failure, raises the same exception."""
    poll = select.poll()
    poll.register(1, select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def drop_output() -> None:
    """Let output to stdout go nowhere from now on, also what is buffered, so that no later write fails."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
