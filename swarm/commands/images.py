"""The commands about images: list them, remove unused ones."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from swarm.commands.run import Selection, every
from swarm.console import Talk, screen
from swarm.errors import Refused
from swarm.plan import Change, Plan
from swarm.reconcile import Applied, reconcile
from swarm.text import amount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from swarm.inventory import Host
    from swarm.vm.store import Item, Survey

__all__ = ["prune", "show"]

_COLUMNS = ("where", "image", "size", "used by")


def show(*, as_json: bool) -> int:
    """List the image catalog, the cache and the base images."""
    found, selection = _survey(Talk(screen(), quiet=as_json))
    with screen().verdict() if selection.broken else nullcontext():
        if as_json:
            screen().json(found.to_json())
        else:
            screen().table(_COLUMNS, found.rows())
    return max((error.exit_code for error in selection.broken.values()), default=0)


def prune(*, plan_only: bool, yes: bool, as_json: bool) -> int:
    """Remove the images that no VM and no host file uses."""
    talk = Talk(screen(), quiet=as_json)
    found, selection = _survey(talk)
    if selection.broken:
        names = ", ".join(sorted(selection.broken))
        raise Refused(
            f"which images are unused is not known while these host files are broken: {names}",
            "correct them and run the command again",
        )

    def remove(plan: Plan, unused: list[Item]) -> Applied[list[Item]]:
        for item in unused:
            item.remove()
            talk.done(f"deleted {item.name} ({amount(item.size)}) from {item.where}")
        return Applied(plan, _left(unused, selection.hosts, talk))

    def confirm(_: Plan) -> None:
        if not yes and not talk.ask("Delete these? They are downloaded or built again when needed."):
            raise Refused("no image was removed", "--yes removes without a question")

    plan = reconcile(lambda: found.unused, _plan, remove, talk, plan_only=plan_only, confirm=confirm)
    if as_json:
        removed = [] if plan_only else [item.to_json() for item in found.unused]
        screen().json({**plan.to_json(), "changed": plan.changed, "removed": removed})
    return 0


def _survey(talk: Talk) -> tuple[Survey, Selection]:
    """Return the images of all hosts whose files can be used. The errors of the others are shown."""
    from swarm.vm import store

    selection = every()
    for name, error in selection.broken.items():
        screen().error(error, Talk(screen(), name).prefix)
    return store.survey(selection.hosts, talk), selection


def _plan(unused: Sequence[Item]) -> Plan:
    return Plan(
        "images",
        tuple(Change("delete", f"{item.name} in {item.where}", before=amount(item.size)) for item in unused),
    )


def _left(removed: Sequence[Item], hosts: Sequence[Host], talk: Talk) -> list[Item]:
    """Return which of the removed images are still there. Only the hypervisors that held one are asked again."""
    from swarm.vm import store

    asked = [host for host in hosts if any(item.where.startswith(host.hypervisor.uri) for item in removed)]
    present = {(item.where, item.name) for item in store.survey(asked, talk).items}
    return [item for item in removed if (item.where, item.name) in present]
