"""A small HTTP receiver for agentmon's events: POST /v1/events, checked as agentmon checks them.

Requests are read by a bounded number of threads. What they bring is handed to one reader, who gets it by `take()`.
A client is answered with 202 only after the reader is done with its events, so that a 2xx means "stored".
"""

from __future__ import annotations

import contextlib
import queue
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from swarm.agentmon.server import PATH, Limits, Server
from swarm.errors import Unfit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from swarm.agentmon.envelope import Event

__all__ = ["PATH", "Delivery", "Limits", "Receiver"]


@dataclass
class Delivery:
    """One request's events, or, with a `problem`, a refused request."""

    client: str
    events: list[Event]
    status: int = 202
    problem: str = ""
    done: threading.Event = field(default_factory=threading.Event, repr=False)
    stored: bool = False


class Receiver:
    """A receiver that listens while its block runs. Port 0 takes a free one.

    With a `token`, a request must have the header `Authorization: Bearer TOKEN`. Raise Unfit if the address can't be
    listened on.
    """

    def __init__(
        self, bind: str = "127.0.0.1", port: int = 0, *, token: str = "", limits: Limits | None = None
    ) -> None:
        self.limits = limits or Limits()
        self.token = token
        self.lost = 0  # notes about refused requests that the reader was too slow for
        self._queue: queue.Queue[Delivery] = queue.Queue(self.limits.threads * 4)
        self.closing = threading.Event()
        try:
            self._server = Server(bind, port, self)
        except (OSError, OverflowError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise Unfit(
                f"can't listen on {bind}:{port}: {reason}", "choose another --port or --bind"
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening, and tell clients that still wait to come back later."""
        self.closing.set()
        self._server.shutdown()
        self.refuse()
        self._server.end()

    def refuse(self) -> None:
        """Store nothing more from now on. Clients are told to come back later, also those that wait already."""
        self.closing.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait().done.set()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The URL to send events to, without the path."""
        host = str(self._server.server_address[0])
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def waiting(self) -> bool:
        """Whether a delivery waits for the reader."""
        return not self._queue.empty()

    @contextlib.contextmanager
    def take(self, wait: float | None = None) -> Iterator[Delivery | None]:
        """Give the next delivery, or None after `wait` seconds. It counts as stored if the block does not raise."""
        try:
            delivery = self._queue.get(timeout=wait)
        except queue.Empty:
            yield None
            return
        try:
            yield delivery
            delivery.stored = True
        finally:
            delivery.done.set()

    def store(self, client: str, events: list[Event]) -> bool:
        """Hand events to the reader. Return whether they were stored in time."""
        delivery = Delivery(client, events)
        with contextlib.suppress(queue.Full):
            self._queue.put(delivery, timeout=self.limits.stored)
            if self.closing.is_set():
                return False
            delivery.done.wait(self.limits.stored)
        return delivery.stored

    def note(self, client: str, status: int, problem: str) -> None:
        """Tell the reader of a refused request. Nobody waits for that."""
        try:
            self._queue.put_nowait(Delivery(client, [], status, problem))
        except queue.Full:
            self.lost += 1
