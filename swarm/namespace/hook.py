"""The commands about agentmon's hook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.collection import Collection

from swarm.front.task import task
from swarm.namespace.words import HOST, JSON, PLAN

if TYPE_CHECKING:
    from invoke.context import Context

__all__ = ["collection"]


@task(
    name="tail",
    default=True,
    help={
        "port": "the port to listen on; 0 takes a free one",
        "bind": "the address to listen on; 0.0.0.0 is every interface",
        "host": "show only this host's events",
        "token-env": "require the token in this environment variable",
        "count": "end after this many events",
        "json": "write one event per line, as it was sent",
    },
)
def tail(
    _: Context,
    port: int = 8080,
    bind: str = "127.0.0.1",
    host: str = "",
    token_env: str = "",
    count: int = 0,
    json: bool = False,
) -> int:
    """Receive events and show them live, until Ctrl-C. No agentmon server is needed."""
    from swarm.commands import hook as commands

    return commands.tail(bind=bind, port=port, name=host, token_env=token_env, count=count, as_json=json)


@task(name="deploy", help={**HOST, **PLAN})
def deploy(_: Context, host: str, plan: bool = False, json: bool = False) -> int:
    """Install agentmon's hook and plugin in a guest, and prove that their events arrive."""
    from swarm.commands import hook as commands

    return commands.deploy(host, plan_only=plan, as_json=json)


@task(name="test", help={**HOST, **JSON})
def test(_: Context, host: str, json: bool = False) -> int:
    """Restart a guest's gateway, and show which of its events arrive here. Exit code 1: not those of both halves."""
    from swarm.commands import hook as commands

    return commands.test(host, as_json=json)


# `./inv hook` is `./inv hook.tail`.
collection = Collection(tail, deploy, test)
