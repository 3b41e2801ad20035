"""The commands about agentmon's hook: tail, deploy, test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from swarm.console import Talk, screen
from swarm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["tail"]

_PORTS = 1 << 16


def tail(*, bind: str, port: int, name: str, token_env: str, count: int, as_json: bool) -> int:
    """Receive events and show them until Ctrl-C."""
    from swarm.agentmon import tail as verb
    from swarm.agentmon.receiver import Receiver

    if not 0 <= port < _PORTS:
        raise UsageError("--port must be from 0 to 65535", "0 takes a free port")
    if count < 0:
        raise UsageError("--count is negative", "give a number of events, such as --count 10")
    talk = Talk(screen())
    try:
        with Receiver(bind, port, token=_token(token_env)) as receiver:
            talk.say(f"receiving at {receiver.url}/v1/events, until Ctrl-C")
            verb.tail(receiver, talk, clients=_clients(name), count=count, as_json=as_json)
    except KeyboardInterrupt as error:
        if type(error) is not KeyboardInterrupt:  # a signal other than Ctrl-C, which is how a person ends it
            raise
    return 0


def _token(variable: str) -> str:
    """Return the token that requests must bring; empty without a variable."""
    if variable and not os.environ.get(variable):
        raise UsageError(f"the environment variable {variable} is not set", f"export {variable}=TOKEN")
    return os.environ.get(variable, "") if variable else ""


def _clients(name: str) -> Collection[str]:
    """Return the client ids whose events to show; none means all."""
    return {name} if name else ()
