"""One script and its answer. Over a connection of its own, it also proves the pinned key and the login.

A kept connection would hide another host key, or a login that is now refused. But who asks every few seconds should not
fill the guest's log with logins.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from swarm.errors import CommandFailed
from swarm.ssh.link import Link
from swarm.ssh.reasons import explain

if TYPE_CHECKING:
    from swarm.errors import Unreachable
    from swarm.ssh.reasons import Ending
    from swarm.ssh.session import Limits

__all__ = ["ask", "ask_kept"]

_CONNECT = 10  # seconds; a lost SYN is repeated after 1, 3 and 7


class _Fresh(Link):
    """A connection that is not kept. What ssh says about it is complete, so nothing connects a second time."""

    control_path = Path("none")  # the word of ssh_config for no socket
    direct = True

    def explain(self, ending: Ending) -> Unreachable | CommandFailed:
        """Return the error that says why the conversation ended early."""
        return explain(self.alias, self.config, ending)

    def _settings(self) -> dict[str, str]:
        kept = {"ControlMaster": "no", "ControlPersist": "no"}
        return {**super()._settings(), **kept, "ConnectTimeout": str(_CONNECT)}


def ask(config: Path, alias: str, script: str, limits: Limits) -> bytes:
    """Run `script` as root over a new connection, and return what it printed to standard output.

    Raise Unreachable if the connection fails (KeyRefused, LoginRefused and others say why), CommandFailed if a limit is
    exceeded or the script exits with another code than 0.
    """
    link = _Fresh(config, alias)
    session = link.session()
    lines: list[bytes] = []
    try:
        session.send(script, limits, merged=False)
        while True:
            found, errors = session.read()
            lines += found
            if not found and not errors:
                break
        if session.code is None:
            raise link.explain(session.ending())
        if session.code:
            raise _failed(alias, session.code)
    finally:
        session.kill()
    return b"\n".join(lines)


def ask_kept(config: Path, alias: str, script: str, limits: Limits) -> bytes:
    """Do as ask(), over the kept connection. If there is none, the new one is kept."""
    link, lines = Link(config, alias), list[bytes]()
    link.direct = True
    code = link.script(script, lines.append, limits).join().exited
    if code:
        raise _failed(alias, code)
    return b"\n".join(lines)


def _failed(alias: str, code: int) -> CommandFailed:
    return CommandFailed(f"{alias}: the script failed with exit code {code}")
