"""The commands about LiteLLM: start, stop, logs, status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.collection import Collection

from swarm.front.task import task
from swarm.namespace.words import JSON, TIMEOUT

if TYPE_CHECKING:
    from invoke.context import Context

__all__ = ["collection"]

_NATIVE = {"native": "without Docker: as services of this user"}


@task(name="up", help={**_NATIVE, **TIMEOUT, **JSON})
def up(_: Context, native: bool = False, timeout: float = 300, json: bool = False) -> int:
    """Start LiteLLM and its database, and wait until it is ready. The first run makes litellm/.env."""
    from swarm.commands import litellm as commands

    return commands.up(native=native, limit=timeout, as_json=json)


@task(name="down", help={**_NATIVE, **JSON})
def down(_: Context, native: bool = False, json: bool = False) -> int:
    """Stop LiteLLM. The database is kept."""
    from swarm.commands import litellm as commands

    return commands.down(native=native, as_json=json)


@task(
    name="logs",
    help={**_NATIVE, "follow": "keep showing new output", "lines": "how many lines of each log to show"},
)
def logs(_: Context, native: bool = False, follow: bool = False, lines: int = 100) -> int:
    """Show the logs of LiteLLM and its database."""
    from swarm.commands import litellm as commands

    return commands.logs(native=native, follow=follow, lines=lines)


@task(name="status", default=True, help=JSON)
def status(_: Context, json: bool = False) -> int:
    """Show what runs, and whether LiteLLM is ready. Exit code 1: it is not."""
    from swarm.commands import litellm as commands

    return commands.status(as_json=json)


# `./inv litellm` is `./inv litellm.status`.
collection = Collection(up, down, logs, status)
