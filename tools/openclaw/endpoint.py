"""agentmon's endpoint for the gateway's events."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from threading import Event as Flag
from threading import Thread
from typing import TYPE_CHECKING, Any

from swarm.agentmon.receiver import Receiver
from tools.seaweed import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.agentmon.envelope import Event

__all__ = ["Endpoint"]


class Endpoint:
    """agentmon's endpoint: our own receiver, which checks each event as agentmon does. It listens only within `up`."""

    def __init__(self) -> None:
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self.events: list[Event] = []
        self.problems: list[str] = []

    @contextmanager
    def up(self) -> Iterator[None]:
        """Listen during the block."""
        over = Flag()
        with Receiver(port=self.port) as receiver:

            def read() -> None:
                while not over.is_set():
                    with receiver.take(0.1) as delivery:
                        if delivery and delivery.problem:
                            self.problems.append(delivery.problem)
                        self.events.extend(delivery.events if delivery else [])

            reader = Thread(target=read)
            reader.start()
            try:
                yield
            finally:
                receiver.refuse()
                over.set()
                reader.join()

    def payloads(self, kind: str) -> list[dict[str, Any]]:
        """Return the payloads of all events of a type."""
        return [dict(each.payload) for each in self.events if each.type == kind]

    def names(self) -> Counter[tuple[str, Any]]:
        """Return how often each type and name has arrived."""
        return Counter((each.type, each.payload.get("name")) for each in self.events)
