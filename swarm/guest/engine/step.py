"""What a step is: one thing on a guest, how to read its state, and how to change it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Step"]


def _nothing(_fact: str) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing on a guest.

    The callables are pure. Each is given the step's fact, which comes from the guest and may be any text. A callable
    may raise any exception for one that it cannot read: the engine turns that into CommandFailed.
    """

    subject: str
    """The name of the thing, unique among all steps of a run."""
    probe: str
    """Read-only shell. What it prints is the fact; one newline at its end is not part of it."""
    slow: bool = False
    """Whether root's probe may take minutes, such as one that asks a server."""
    wanted: str
    """The wanted state, in a few words."""
    apply: Callable[[str], str | None] = _nothing
    """Return the shell that makes the change, or None if the state is as wanted."""
    after: tuple[str, ...] = ()
    """Subjects of the steps that must be done before this one."""
    reacts_to: tuple[str, ...] = ()
    """Subjects of the steps whose change makes one here likely, even if the state is as wanted now. Implies `after`."""
    refuse: Callable[[str], str | None] = _nothing
    """Return the reason why the run must not begin, or None. Asked before anything is changed."""
    shown: Callable[[str], str | None] = _nothing
    """Return the present state in a few words, or None if the thing does not exist."""
    diff: Callable[[str], str | None] = _nothing
    """Return the unified diff of a file, or None."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Texts that no output may contain."""
    known: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Arguments for the prelude's functions known_KEY, by KEY. Each is called once for all probes that need it."""
    reader: str = ""
    """The user who runs the probe. Empty: root."""
    unread: str = ""
    """The fact if that user does not exist."""
