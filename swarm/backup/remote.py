"""Start rsync in a guest: as root, and behind a login that prints.

rsync's protocol begins with the first byte, so a ~/.bashrc that prints breaks it. Such guests are rare. So rsync first
runs without a filter. Only if it does not understand the answer, it runs again with one. The failed run ends before
it copies anything.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from swarm.guest.answer import new_mark
from swarm.paths import ROOT
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import PurePath

__all__ = ["GARBLED", "GARBLED_HINT", "ways"]

GARBLED = 2  # rsync's exit code for an answer that is not in its protocol
GARBLED_HINT = "make its ~/.bashrc silent where no terminal is; at most 64 KiB of what it prints are skipped"
# Any login shell may read these, so they hold no character that shells treat differently within single quotes.
_AS_ROOT = 'if [ -O /proc/1 ]; then exec rsync "$@"; else exec sudo -n rsync "$@"; fi'
_AS_USER = 'exec rsync "$@"'


def ways(ssh: Sequence[str | PurePath], *, root: bool) -> Iterator[tuple[str, str, str]]:
    """Yield two sets of options with which rsync reaches a guest by the command `ssh`, as root if `root`.

    The second set drops up to 64 KiB that the login prints first. Use it only if the first run ended with GARBLED.
    """
    yield "-e", quote(*ssh), f"--rsync-path={_by_sh(_AS_ROOT) if root else 'rsync'}"
    mark = new_mark()
    shell = quote(sys.executable, "-I", "-S", ROOT / "swarm/ssh/denoise.py", mark, *ssh)
    script = f"echo; echo {mark}; {_AS_ROOT if root else _AS_USER}"
    yield "-e", shell, f"--rsync-path={_by_sh(script)}"


def _by_sh(script: str) -> str:
    return f"sh -c {quote(script)} rsync"
