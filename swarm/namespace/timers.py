"""The commands about timers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.collection import Collection

from swarm.front.task import task
from swarm.namespace.words import HOST, JSON, PLAN

if TYPE_CHECKING:
    from invoke.context import Context

__all__ = ["collection"]


@task(
    name="install",
    help={
        **HOST,
        **PLAN,
        "drill": "also install the weekly drill",
        "litellm": "install the health check of LiteLLM; the default where litellm/.env exists",
        "drift": "also run `inv plan --host all` every morning",
    },
)
def install(
    _: Context,
    host: str = "",
    drill: bool = False,
    litellm: bool = False,
    drift: bool = False,
    plan: bool = False,
    json: bool = False,
) -> int:
    """Back hosts up every night and check LiteLLM every six hours, by systemd timers of this user."""
    from swarm.commands import timers as commands

    return commands.install(host, drill=drill, litellm=litellm, drift=drift, plan_only=plan, as_json=json)


@task(name="status", default=True, help={"host": HOST["host"] + "; default: all", **JSON})
def status(_: Context, host: str = "all", json: bool = False) -> int:
    """Show when each timer runs next, when it last ran, and how that went."""
    from swarm.commands import timers as commands

    return commands.status(host, as_json=json)


@task(
    name="remove",
    help={
        **HOST,
        **PLAN,
        "litellm": "remove the health check of LiteLLM; --host all does so, too",
        "drift": "remove the timer of `inv plan`; --host all does so, too",
    },
)
def remove(
    _: Context,
    host: str = "",
    litellm: bool = False,
    drift: bool = False,
    plan: bool = False,
    json: bool = False,
) -> int:
    """Remove the timers of hosts, that of LiteLLM, or that of `inv plan`."""
    from swarm.commands import timers as commands

    return commands.remove(host, litellm=litellm, drift=drift, plan_only=plan, as_json=json)


# `./inv timers` is `./inv timers.status`.
collection = Collection(install, status, remove)
