"""End a task by an exception on Ctrl-C, `kill` or a closed terminal, so that it cleans up what it started."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Stopped", "handle"]


class Stopped(KeyboardInterrupt):
    """The process received another signal than Ctrl-C's that asks it to end."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def handle() -> None:
    """Let SIGINT raise KeyboardInterrupt, and SIGTERM and SIGHUP raise Stopped.

    A signal that was ignored when the process started stays ignored: Ctrl-C in a script's background job, a closed
    terminal under nohup.
    """
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, _stop),
        (signal.SIGHUP, _stop),
    ):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)
    raise Stopped(number)
