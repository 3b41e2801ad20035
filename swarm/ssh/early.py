"""Begin to connect to the guests that a command line names before anything else is loaded: both take a tenth of a second and more.

It is a guess from what was true the last time, so it counts only if it proves right: the connection is used if the host file, read
and checked later, leads to the very same SSH configuration and pinned key. Until then a shell waits there, and is told nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import re
from typing import TYPE_CHECKING

from swarm.errors import SwarmError
from swarm.ssh import part_path
from swarm.ssh.remote import Remote

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["connect", "remote"]

_NAMES = re.compile(
    r"[a-z0-9_-]+(,[a-z0-9_-]+)*"
)  # what can be names of hosts; anything else is complained about by who reads it

_begun: dict[str, Remote] = {}


def connect(words: Sequence[str]) -> None:
    """Begin to connect to the hosts that a task's `words` name with --host, as far as there are any that were reached before."""
    if not {"--help", "-h"} & set(words):
        for name in _named(words):
            if part_path(name).is_file():
                begun = Remote(part_path(name), name)
                with contextlib.suppress(
                    SwarmError, OSError
                ):  # it will be said when the connection is needed
                    begun.connect()
                    _begun[name] = begun
    atexit.register(_give_up)


def remote(config: Path, alias: str) -> Remote:
    """Return the host as Remote(config, alias) is it, with its connection begun, if that was to the very same one."""
    fresh, begun = Remote(config, alias), _begun.pop(alias, None)
    if begun and begun.control_path == fresh.control_path:
        return begun
    if begun:
        begun.give_up()
    return fresh


def _named(words: Sequence[str]) -> list[str]:
    given = [word for before, word in itertools.pairwise(words) if before == "--host"]
    given += [word.removeprefix("--host=") for word in words if word.startswith("--host=")]
    return list(dict.fromkeys(name for each in given if _NAMES.fullmatch(each) for name in each.split(",")))


def _give_up() -> None:
    while _begun:
        _begun.popitem()[1].give_up()
