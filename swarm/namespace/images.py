"""The commands about images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.collection import Collection

from swarm.front.task import task
from swarm.namespace.words import PLAN, YES

if TYPE_CHECKING:
    from invoke.context import Context

__all__ = ["collection"]


@task(name="list", default=True, help={"prune": "the same as images.prune", **PLAN, **YES})
def list_(_: Context, prune: bool = False, plan: bool = False, yes: bool = False, json: bool = False) -> int:
    """List the image catalog, the cache and the base images of each hypervisor."""
    from swarm.commands import images as commands

    return commands.prune(plan_only=plan, yes=yes, as_json=json) if prune else commands.show(as_json=json)


@task(name="prune", help={**PLAN, **YES})
def prune(_: Context, plan: bool = False, yes: bool = False, json: bool = False) -> int:
    """Remove the images that no VM and no host file uses."""
    from swarm.commands import images as commands

    return commands.prune(plan_only=plan, yes=yes, as_json=json)


# `./inv images` is `./inv images.list`.
collection = Collection(list_, prune)
