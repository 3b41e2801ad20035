"""One run at a time on each host."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from swarm.files import private_dir
from swarm.locks import hold
from swarm.paths import state_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.console import Talk
    from swarm.inventory import Host

__all__ = ["busy"]


@contextmanager
def busy(host: Host, talk: Talk) -> Iterator[None]:
    """Lock the host during the block. If another run holds it, wait for that run and show that it waits."""
    folder = private_dir(private_dir(state_dir()) / "locks")
    path = folder / f"{host.name}.lock"
    with hold(path, waiting=lambda: talk.step(f"waiting for another run on {host.name}")):
        yield
