"""List the images in the cache and in the hypervisors' pools, and who uses them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from swarm import images
from swarm.embedded import Embedded
from swarm.errors import ImageError, Refused, SwarmError
from swarm.hypervisor.connection import ANSWER, Libvirt
from swarm.hypervisor.storage import find_pool
from swarm.hypervisor.usage import usage
from swarm.inventory import EMBEDDED, Host
from swarm.text import amount
from swarm.vm.desired import BASE_PREFIX
from swarm.vm.throwaway import with_vm

if TYPE_CHECKING:
    from collections.abc import Callable

    from swarm.console import Talk

__all__ = ["Item", "Survey", "survey"]

CACHE = "cache"
CATALOGUE = "catalogue"


@dataclass(frozen=True)
class Item:
    """One stored image. `users` are host names for the cache; for a pool, disks or domains."""

    where: str
    name: str
    size: int
    users: tuple[str, ...]
    remove: Callable[[], object] = field(compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the item as plain data; the size is in bytes."""
        return {"where": self.where, "name": self.name, "size": self.size, "users": list(self.users)}


@dataclass(frozen=True)
class Survey:
    """All images that were found."""

    catalogue: tuple[images.Entry, ...]
    items: tuple[Item, ...]

    @property
    def unused(self) -> list[Item]:
        """The images without users."""
        return [item for item in self.items if not item.users]

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Return the survey as a table: where, image, size, users."""
        listed = [(CATALOGUE, entry.name, "", entry.about) for entry in self.catalogue]
        return [
            *listed,
            *(
                (item.where, item.name, amount(item.size), ", ".join(item.users) or "unused")
                for item in self.items
            ),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the survey as plain data."""
        return {
            "catalogue": [
                {"name": entry.name, "kind": entry.kind, "about": entry.about} for entry in self.catalogue
            ],
            "images": [item.to_json() for item in self.items],
        }


def survey(hosts: list[Host], talk: Talk) -> Survey:
    """List the images in the cache and in the pools of all `hosts`, and of the drills of machines without a VM.

    An embedded hypervisor is started if it ever ran before. A hypervisor that cannot be reached is skipped.
    """
    hosts = [with_vm(host) for host in hosts]
    items = [
        Item(CACHE, image.path.name, image.size, _wanted(image, hosts), partial(images.remove, image))
        for image in images.cached()
    ]
    places = {(host.hypervisor.uri, host.vm.disk_path.parent) for host in hosts}
    for uri in sorted({uri for uri, _ in places}):
        if uri == EMBEDDED and not Embedded().exists:
            continue
        try:
            items += _pools(uri, sorted(folder for place, folder in places if place == uri))
        except SwarmError as error:
            talk.warn(f"the images of {uri} are not listed: {error.message}")
    return Survey(tuple(images.entries()), tuple(items))


def _wanted(image: images.Image, hosts: list[Host]) -> tuple[str, ...]:
    users = []
    for host in hosts:
        try:
            found = images.find(host.vm.image)
        except ImageError:
            continue
        if found and found.path == image.path:
            users.append(host.name)
    return tuple(users)


def _pools(uri: str, folders: list[Any]) -> list[Item]:
    items = []
    with Libvirt(uri, limit=ANSWER) as connection:
        used = usage(connection)
        for folder in folders:
            pool = find_pool(connection, folder)
            if pool is None or not pool.activate():
                continue
            volumes = pool.volumes()
            for volume in volumes:
                if volume.name.startswith(BASE_PREFIX):
                    overlays = sorted(each.name for each in volumes if each.backing == volume.path)
                    # An overlay may lie in another pool, or outside all of them: then a domain's name stands for it.
                    users = tuple(overlays or used.of([volume.path]).values())
                    items.append(
                        Item(
                            f"{uri} {folder}",
                            volume.name,
                            volume.physical,
                            users,
                            _deleter(uri, folder, volume.name),
                        )
                    )
    return items


def _deleter(uri: str, folder: Any, name: str) -> Callable[[], None]:  # noqa: ANN401 - a pure path
    def delete() -> None:
        with Libvirt(uri) as connection:
            pool = find_pool(connection, folder)
            volume = pool.find(name) if pool and pool.activate() else None
            if pool and volume:
                # A VM may have been made from it since the survey.
                if user := usage(connection).of([volume.path]).get(volume.path):
                    raise Refused(f"{volume.path} is used by the domain {user!r} by now, and is kept")
                pool.delete(name)

    return delete
