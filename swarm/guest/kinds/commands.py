"""Steps for arbitrary shell, and for conditions that must hold before a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.guest.engine.script import apart, as_user
from swarm.guest.engine.step import Step
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check", "command"]


def check(subject: str, probe: str, wanted: str, refuse: Callable[[str], str | None]) -> Step:
    """Return a step that changes nothing. `refuse` returns, given the fact, why the run must not begin, or None."""
    return Step(subject=subject, probe=probe, wanted=wanted, refuse=refuse)


def command(
    subject: str,
    script: str,
    *,
    unless: str,
    after: tuple[str, ...] = (),
    as_name: str | None = None,
    hidden: tuple[str, ...] = (),
) -> Step:
    """Return a step for shell that runs only if the shell `unless` fails, which must not change anything.

    Both run as the user `as_name` (None: root). A syntax error, an exit or a changed variable affects nothing else.
    """
    work = as_user(as_name, script) if as_name else f"printf '%s\\n' {quote(apart(script))} | sh -eu"
    # The guard is not the condition of the "if" itself: there, a shell does not stop at errors.
    probe = (
        f"( set -eu; eval {quote(unless)} ) >/dev/null 2>&1\nif [ $? = 0 ]; then echo done; else echo due; fi"
    )
    return Step(
        subject=f"command {subject}",
        probe=probe,
        wanted="done",
        apply=lambda fact: None if fact == "done" else work,
        after=after,
        secrets=hidden,
        reader=as_name or "",
        unread="due",
    )
