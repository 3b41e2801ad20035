"""Hand over from any other Invoke to ./inv, so that `inv provision --host zap` works with every `inv` on the PATH.

tasks.py calls this module before it imports anything that such a Python may not have. So this module uses only the
standard library, and both use only syntax of Python 3.8.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback

__all__ = ["to_inv"]

# Set to the process id by the handover. exec keeps the id, so a second handover in the same process is detected.
# A program that ./inv starts has another id, and may call another Invoke.
_MARK = "SWARM_HANDED_OVER"


def to_inv(root: str) -> None:
    """Replace this process by `root`/inv, with the same arguments, if Invoke runs in a Python outside `root`/.venv.

    Return if it runs in that Python, if ./inv started this process, or if the caller is not Invoke but, say, an editor.
    Invoke answers --version, a bare --help and --print-completion-script itself, without loading tasks.py.
    """
    if "swarm.front.program" in sys.modules or _same(sys.prefix, f"{root}/.venv") or not _in_invoke():
        return
    process = str(os.getpid())
    if os.environ.get(_MARK) == process:
        sys.exit(
            f"error: {root}/inv started Invoke outside {root}/.venv\n  hint: remove {root}/.venv and try again"
        )
    os.environ[_MARK] = process
    for name in ("SIGPIPE", "SIGXFSZ"):  # Python ignores these two; ignored signals stay ignored across exec
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    argv = ["sh", f"{root}/inv", *sys.argv[1:]]  # by sh, since inv may not be executable
    os.execv("/bin/sh", argv)  # noqa: S606 - a list of arguments


def _same(first: str, second: str) -> bool:
    return os.path.realpath(first) == os.path.realpath(second)


def _in_invoke() -> bool:
    """Return whether Invoke's program loads the caller."""
    return any(frame.f_globals.get("__name__") == "invoke.program" for frame, _ in traceback.walk_stack(None))
