"""Cut a command's own output out of what a login prints around it.

A ~/.bashrc may print lines, a login shell need not be a POSIX shell, and a logout script may print more. So a command
is sent in a form that every shell understands alike, is run by sh, and prints a mark before and after its output.
"""

from __future__ import annotations

import base64
import re
import secrets
from dataclasses import dataclass

from swarm.text import quote

__all__ = ["Answer", "cut", "new_mark", "wrap"]


@dataclass(frozen=True)
class Answer:
    """What a command printed on standard output and on standard error, and its exit code."""

    code: int
    text: str
    errors: str


def new_mark() -> str:
    """Return a word that cannot occur in any output, since it cannot be guessed."""
    return f"mark-{secrets.token_hex(12)}"


def wrap(command: str, mark: str, *, login: str | None = None) -> str:
    """Return a command for any login shell that runs the shell text `command` between two marks, as cut() expects it.

    With `login` it runs as that user, with the environment that the user's own login sets up. Only root can do that.
    """
    begin = f"printf '%s\\n' {mark}"
    script = _through_sh(f"{begin}; {begin} >&2\n(\n{command}\n)\nprintf '\\n%s %s\\n' {mark} \"$?\"\n")
    return _through_sh(f"runuser -l {quote(login)} -c {quote(script)}") if login else script


def _through_sh(script: str) -> str:
    """A command without any character that the shells treat differently."""
    encoded = base64.b64encode(script.encode("utf-8", "surrogateescape")).decode("ascii")
    return f"exec sh -c 'eval \"$(echo {encoded} | base64 -d)\"'"


def cut(output: bytes, errors: bytes, mark: str) -> Answer | None:
    """Return what the command printed between the marks and its exit code, None if a mark is missing.

    Bytes that are not UTF-8 are replaced. White space around the text is removed.
    """
    _, _, rest = output.partition(f"{mark}\n".encode())
    text, _, end = rest.partition(f"\n{mark} ".encode())
    code = re.match(rb"(\d{1,3})\n", end)
    if not code:
        return None
    return Answer(int(code[1]), _clean(text), _clean(errors.rpartition(f"{mark}\n".encode())[2]))


def _clean(text: bytes) -> str:
    return text.decode("utf-8", "replace").strip()
