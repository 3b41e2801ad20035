"""Arguments of ssh_config and of a ProxyCommand, each quoted for those who read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.text import quote

if TYPE_CHECKING:
    from pathlib import PurePath

__all__ = ["proxy", "word"]


def word(value: str | PurePath) -> str:
    """Return a path as one argument of ssh_config, where % starts a token and a backslash escapes a quote."""
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def proxy(*words: str | PurePath) -> str:
    """Return a ProxyCommand that runs `words`. ssh replaces the words %h and %p, and a shell splits the line."""
    return " ".join(
        each if each in {"%h", "%p"} else quote(each).replace("%", "%%") for each in map(str, words)
    )
