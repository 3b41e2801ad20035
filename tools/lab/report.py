"""What a machine says about its own state, for the error that tells that a wait was in vain."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tools.lab.process import LabError, children, run, tail

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["report"]

_LIMIT = 10  # seconds for a machine in trouble to answer
_SPACES = ("--mount", "--uts", "--ipc", "--net", "--pid")
_SCRIPT = """{ systemctl is-system-running; systemctl list-jobs --no-legend --no-pager
systemctl list-units --failed --no-legend --no-pager; journalctl -q -n 20 --no-pager -o short-monotonic; } 2>&1"""


def report(nspawn: int | None, log: Path) -> str:
    """Return a machine's jobs, failed units, journal and console, each as far as it can be had. Nothing in here fails.

    Given the process ID of its systemd-nspawn, None if it was not started, and the file with its console's output.
    """
    parts = {}
    with contextlib.suppress(LabError):
        parts["state, jobs, failed units, journal"] = _ask(nspawn)
    with contextlib.suppress(OSError):
        parts["console"] = tail(log.read_text(encoding="utf-8", errors="replace"))
    return "".join(f"\n── {name}:\n{text}" for name, text in parts.items())


def _ask(nspawn: int | None) -> str:
    """Ask systemd without SSH, through the namespaces of the machine's first process. Raise LabError."""
    leaders = children(nspawn) if nspawn else []
    if not leaders:
        raise LabError("the machine has no process")
    enter = ("nsenter", "--target", str(leaders[0]), *_SPACES, "--", "timeout", str(_LIMIT))
    return tail(run(*enter, "sh", "-c", _SCRIPT, check=False, limit=2 * _LIMIT), 60)
