"""Disk images: list the catalog, get an image, list the cached ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.images import recipe
from swarm.images.cache import Image, adopt, cached, folder, lock, lookup, remove
from swarm.images.catalogue import Entry, entries, entry

if TYPE_CHECKING:
    from swarm.console import Talk

__all__ = ["Entry", "Image", "cached", "ensure", "entries", "find", "remove"]


def find(name: str) -> Image | None:
    """Return the cached image of the catalog entry `name`, or None. Use no network and start no program.

    Raise ImageError for an unknown name.
    """
    return lookup(_file_name(entry(name)))


def ensure(name: str, talk: Talk) -> Image:
    """Return the image of the catalog entry `name`. Download or build it first unless it is cached.

    Raise ImageError if the name is unknown, or if the image can't be obtained or trusted. Raise Unfit if this
    machine does not meet the requirements of a build.
    """
    wanted = entry(name)
    file_name = _file_name(wanted)
    if image := lookup(file_name):
        return image
    with lock(file_name, talk):
        if image := lookup(file_name):  # another run finished it in the meantime
            return image
        if wanted.kind == "published":
            from swarm.images import download

            part = folder() / f".{file_name}.part"
            try:
                return adopt(download.fetch(wanted, part, talk), file_name, wanted.name)
            finally:
                download.settle(part)
        from swarm.images import build

        own = recipe.this_machine()
        fresh = build.build(own, folder(), talk)
        with talk.step(f"checking image {own.name}") as meter:
            return adopt(fresh, file_name, own.name, meter)


def _file_name(wanted: Entry) -> str:
    return recipe.this_machine().file_name if wanted.kind == "built" else f"{wanted.name}.qcow2"
