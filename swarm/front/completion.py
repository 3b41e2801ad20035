"""Tab completion: the scripts of completion/, and the word list that they read.

Starting Python at each TAB would take 100 ms; reading a list takes 2 ms. The list has a line `name|options|help` for
each task, where `-` stands for ./inv itself. An option that takes a value ends in `=`.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from swarm.errors import UsageError
from swarm.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from invoke.parser.context import ParserContext

__all__ = ["WORDS", "script", "write_words"]

WORDS = ROOT / ".setup" / "words"
_SCRIPTS = ROOT / "completion"


def script(shell: str) -> str:
    """Return the completion script for bash, zsh or fish, with this folder filled in. Raise UsageError for others."""
    shells = sorted(path.suffix[1:] for path in _SCRIPTS.glob("inv.*"))
    if shell not in shells:
        raise UsageError(
            f"there is no completion script for {shell!r}", f"choose one of: {', '.join(shells)}"
        )
    return (_SCRIPTS / f"inv.{shell}").read_text(encoding="utf-8").replace("@ROOT@", shlex.quote(str(ROOT)))


def write_words(core: ParserContext, tasks: Iterable[tuple[ParserContext, str]]) -> None:
    """Write the word list: the options of ./inv itself, and each task with its one line of help."""
    lines = [
        f"-|{_options(core)}|",
        *(f"{name}|{_options(context)} --help|{text}" for context, text in tasks for name in _names(context)),
    ]
    new = WORDS.with_name(f"words.{os.getpid()}")
    try:
        WORDS.parent.mkdir(exist_ok=True)
        new.write_text("\n".join(lines) + "\n", encoding="utf-8")
        new.replace(WORDS)  # in one step, since a shell may be reading it
    except OSError:  # no permission to write here: completion then uses the existing list
        new.unlink(missing_ok=True)


def _names(context: ParserContext) -> tuple[str, ...]:
    return (context.name or "", *context.aliases)


def _options(context: ParserContext) -> str:
    with_value = {
        flag for flag, argument in context.flags.items() if argument.takes_value and not argument.optional
    }
    return " ".join(f"{flag}=" if flag in with_value else flag for flag in context.flag_names())
