"""What is the same for all hosts of one hypervisor at one moment: what its domains use, and the volumes of its pools.

`inv status` looks at many hosts at once. If each of them read every domain and volume, the time would grow with the
square of their number.
"""

from __future__ import annotations

import threading
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from swarm.hypervisor.storage import Volume, find_pool
from swarm.hypervisor.usage import Holding, holdings

if TYPE_CHECKING:
    from swarm.hypervisor.connection import Libvirt
    from swarm.vm.remote import Found, Remote

__all__ = ["Shared"]


class Shared:
    """Reads each thing once, when the first host needs it. Several threads may ask at the same time.

    `asked` is what the machine of a remote hypervisor was asked.
    """

    def __init__(self, connection: Libvirt, asked: Remote | None = None) -> None:
        self._connection = connection
        self._asked = asked
        self._lock = threading.Lock()
        self._pools: dict[str, tuple[str | None, dict[str, Volume]]] = {}

    @property
    def holdings(self) -> list[Holding]:
        """What the domains use. Raise HypervisorError if libvirt fails."""
        with self._lock:
            return self._holdings

    @cached_property
    def _holdings(self) -> list[Holding]:
        return holdings(self._connection)

    @property
    def machine(self) -> Found | None:
        """What is known of a remote hypervisor's machine; None if it is this one."""
        return self._asked.found if self._asked else None

    def volumes(self, folder: str) -> tuple[str | None, dict[str, Volume]]:
        """Return the name of the pool of a folder, or None, and its volumes by their names."""
        with self._lock:
            if folder not in self._pools:
                self._pools[folder] = self._look(PurePosixPath(folder))
            return self._pools[folder]

    def _look(self, folder: PurePosixPath) -> tuple[str | None, dict[str, Volume]]:
        pool = find_pool(self._connection, folder)
        if pool is None:
            return None, {}
        # A stopped pool lists no volumes. Starting it changes nothing that the host file describes.
        there = pool.volumes() if pool.activate() else []
        return pool.name, {volume.name: volume for volume in there}
