"""How a short-lived process of ours begins and ends: without the work that only a long-lived one profits from."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["begin", "leave"]

# Objects made before Python looks for unused circles among them; its own 700 has it look again and again while modules are loaded,
# which is a tenth of the time that loading takes.
_OBJECTS = 50_000


def begin() -> None:
    """Do this first."""
    gc.set_threshold(_OBJECTS)


def leave(code: int) -> NoReturn:
    """End the process with this exit code. All output is written and exit functions run, but the interpreter is not taken apart.

    That takes 15 ms, and the kernel does it in one. The process must have no threads that somebody should wait for.
    """
    atexit._run_exitfuncs()  # noqa: SLF001 - what the interpreter itself calls
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read it has seen enough
        code = code or 128 + signal.SIGPIPE
    except OSError as error:
        sys.stderr.write(f"error: {error.strerror}\n")
        code = code or 1
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)
