"""The commands about agentmon's hook: tail, deploy, test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from swarm.commands.render import render
from swarm.commands.run import chosen, run
from swarm.console import Talk, screen
from swarm.errors import UsageError
from swarm.inventory import load, names

if TYPE_CHECKING:
    from collections.abc import Collection

    from swarm.agentmon.deploy import Report
    from swarm.inventory import Host
    from swarm.plan import Plan
    from swarm.ssh.guest import Guest

__all__ = ["deploy", "tail", "test"]

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


def deploy(words: str, *, plan_only: bool, as_json: bool) -> int:
    """Install the hook in guests, and prove that its events arrive."""

    def one(host: Host, talk: Talk) -> Plan:
        from swarm.agentmon.deploy import deploy as verb

        return verb(_guest(host), host, talk, plan_only=plan_only)

    return render(run(chosen(words), one, quiet=as_json), as_json=as_json)


def test(words: str, *, as_json: bool) -> int:
    """Receive the events of guests' gateways while they restart."""

    def one(host: Host, talk: Talk) -> Report:
        from swarm.agentmon.deploy import prove

        return prove(_guest(host), host, talk)

    return render(run(chosen(words), one, quiet=as_json), as_json=as_json)


def _guest(host: Host) -> Guest:
    from swarm.agentmon.deploy import section
    from swarm.fleet.parts import connect

    section(host)
    return connect(host)


def _token(variable: str) -> str:
    """Return the token that requests must bring; empty without a variable."""
    if variable and not os.environ.get(variable):
        raise UsageError(f"the environment variable {variable} is not set", f"export {variable}=TOKEN")
    return os.environ.get(variable, "") if variable else ""


def _clients(name: str) -> Collection[str]:
    """Return the client ids whose events to show; none means all. A host's events have its agentmon.vm_name."""
    if not name:
        return ()
    settings = load(name).agentmon if name in names() else None
    return {settings.vm_name if settings and settings.vm_name else name}
