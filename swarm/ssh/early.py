"""Start to connect to the guests that a command line names, before anything else is loaded.

Connecting and loading both take a tenth of a second and more, so they overlap. The connection is a guess from
the previous run. It is used only if the host file, once it is read and checked, leads to the same SSH
configuration and pinned key. Until then a shell waits in the guest and receives nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import re
from typing import TYPE_CHECKING

from swarm.errors import SwarmError
from swarm.ssh.config import part_path
from swarm.ssh.link import Link

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["connect", "link"]

_NAMES = re.compile(r"[a-z0-9_-]+(,[a-z0-9_-]+)*")  # anything else is reported when the host file is read

_begun: dict[str, Link] = {}


def connect(words: Sequence[str]) -> None:
    """Start to connect to the hosts that a task's `words` name with --host, if they were reached before."""
    if not {"--help", "-h"} & set(words):
        for name in _named(words):
            with contextlib.suppress(SwarmError, OSError):  # reported when the connection is needed
                if part_path(name).is_file():
                    begun = Link(part_path(name), name)
                    begun.connect()
                    _begun[name] = begun
    atexit.register(_give_up)


def link(config: Path, alias: str) -> Link:
    """Return Link(config, alias), or the one whose connection connect() has started if that leads to the same host."""
    fresh, begun = Link(config, alias), _begun.pop(alias, None)
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
