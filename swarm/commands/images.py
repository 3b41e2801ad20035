"""The commands about images: list them, remove unused ones."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from swarm.commands.run import Selection, every
from swarm.console import Talk, screen
from swarm.errors import Refused, UsageError
from swarm.text import amount

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def prune(*, yes: bool, as_json: bool) -> int:
    """Remove the images that no VM and no host file uses."""
    talk = Talk(screen(), quiet=as_json)
    found, selection = _survey(talk)
    if selection.broken:
        names = ", ".join(sorted(selection.broken))
        raise Refused(
            f"which images are unused is not known while these host files are broken: {names}",
            "correct them and run the command again",
        )
    unused = found.unused
    _confirm(unused, talk, yes=yes)
    for item in unused:
        item.remove()
        talk.done(f"deleted {item.name} ({amount(item.size)}) from {item.where}")
    if as_json:
        screen().json({"removed": [item.to_json() for item in unused]})
    return 0


def _survey(talk: Talk) -> tuple[Survey, Selection]:
    """Return the images of all hosts whose files can be used. The errors of the others are shown."""
    from swarm.vm import store

    selection = every()
    for name, error in selection.broken.items():
        screen().error(error, Talk(screen(), name).prefix)
    return store.survey(selection.hosts, talk), selection


def _confirm(unused: Sequence[Item], talk: Talk, *, yes: bool) -> None:
    if not unused:
        talk.done("nothing to prune")
    elif not yes:
        for item in unused:
            talk.say(f"- {item.where}: {item.name}, {amount(item.size)}")
        if not talk.ask("Delete these? They are downloaded or built again when needed."):
            raise UsageError("nothing was pruned", "answer y, or give --yes")
