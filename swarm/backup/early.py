"""Tell of a backup that failed before it began: the guest has no pinned key, or the record is damaged."""

from __future__ import annotations

import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from swarm.backup import record
from swarm.backup.busy import hold_host
from swarm.backup.monitor import Monitor
from swarm.errors import Refused, SwarmError, VerificationFailed, explained

if TYPE_CHECKING:
    from swarm.console import Talk
    from swarm.inventory import BackupSettings

__all__ = ["failed_early"]


def failed_early(
    host: str, settings: BackupSettings, error: Exception, talk: Talk, *, locked: bool = False
) -> None:
    """Record the failure, run the user's commands, write the metrics and call the dead man's switch.

    Nothing is recorded while a backup of the host runs: it records its own end. `locked` says that the caller holds
    the host's lock.
    """
    words, monitor, found = explained(error).message, Monitor(host, settings, talk), None
    monitor.on_error(words)
    with suppress(Refused):
        found = _recorded(host, words, locked=locked)
    monitor.end("failure", words, found)
    with suppress(SwarmError):
        monitor.after("failure")


def _recorded(host: str, words: str, *, locked: bool) -> record.Record:
    """Record the failure, and return the record. A damaged one is left for the user to look at."""
    now = time.time()
    with nullcontext() if locked else hold_host(host):
        try:
            found, damaged = record.load(host), False
        except VerificationFailed:
            found, damaged = record.Record(), True
        found.started = found.ended = now
        found.result, found.message = "failure", words
        if not damaged:
            record.finish(host, found)
    return found
