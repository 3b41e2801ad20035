"""The decorator that makes a function a command: failures become a sentence on stderr and an exit code.

Only the standard library and Invoke are imported at the top, because every call of ./inv imports this module.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from functools import wraps
from typing import TYPE_CHECKING, Any, overload

from invoke.exceptions import Exit
from invoke.tasks import Task

from swarm.errors import SwarmError, explained
from swarm.front import signals
from swarm.streams import drop_output, reader_gone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Body = Callable[..., int | None]

__all__ = ["crashed", "failed", "remainder", "show", "task"]

AGAIN = "run the same command again to continue"


@overload
def task(body: Body, /) -> Task[Any]: ...


@overload
def task(
    *,
    name: str | None = None,
    aliases: Iterable[str] = (),
    positional: Iterable[str] | None = None,
    optional: Iterable[str] = (),
    iterable: Iterable[str] | None = None,
    default: bool = False,
    help: Mapping[str, str] | None = None,
) -> Callable[[Body], Task[Any]]: ...


def task(body: Body | None = None, /, **options: Any) -> Task[Any] | Callable[[Body], Task[Any]]:
    """Make a function a command of ./inv. Takes the options of Invoke's decorator of the same name.

    The function's first argument is Invoke's context. A number that it returns becomes the exit code. A SwarmError or
    OSError becomes one sentence on stderr. Ctrl-C and SIGTERM run every `finally` block and say how to continue.
    SWARM_DEBUG=1 shows tracebacks. No flag gets a one-letter form: a new flag must never change what an old one means.
    """

    def decorate(body: Body) -> Task[Any]:
        return Task(_guarded(body), auto_shortflags=False, **options)

    return decorate(body) if body else decorate


def remainder() -> list[str]:
    """Return the arguments after a lone `--`, unchanged. Invoke itself would join them with blanks."""
    words = sys.argv[1:]
    return words[words.index("--") + 1 :] if "--" in words else []


def _guarded(body: Body) -> Callable[..., None]:
    @wraps(body)
    def run(*args: Any, **kwargs: Any) -> None:
        signals.handle()
        try:
            code = body(*args, **kwargs)
            sys.stdout.flush()  # here, not at exit, so that a missing reader is noticed
        except (SwarmError, OSError, KeyboardInterrupt) as error:
            if os.environ.get("SWARM_DEBUG") and not isinstance(error, KeyboardInterrupt):
                raise
            raise Exit(code=failed(error)) from None
        if code:
            raise Exit(code=code)

    return run


def failed(error: SwarmError | OSError | KeyboardInterrupt) -> int:
    """Show in one sentence what happened, and return the exit code."""
    if isinstance(error, BrokenPipeError) and reader_gone():
        # `./inv hosts | head -1` is no failure. Buffered output goes nowhere, so that Python reports no error either.
        drop_output()
        return 128 + signal.SIGPIPE
    if isinstance(error, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not cut the sentence short
        number = error.number if isinstance(error, signals.Stopped) else signal.SIGINT
        what = "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
        show(SwarmError(what, AGAIN))
        return 128 + number
    sentence = explained(error)
    show(sentence)
    return sentence.exit_code


def crashed(error: Exception) -> int:
    """Show the traceback of an error that nothing handled, and return the exit code.

    Python itself would send the control characters in the error's text to the terminal.
    """
    from swarm.console import escape, screen

    screen().line(escape("".join(traceback.format_exception(error)).rstrip("\n")))
    return explained(error).exit_code


def show(error: SwarmError) -> None:
    """Write an error to stderr."""
    from swarm.console import screen

    screen().error(error)
