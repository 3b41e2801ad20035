"""Ask a hypervisor something, for a limited time: one that is switched off must not hold up the others."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

from swarm.errors import Unfit
from swarm.hypervisor.uri import ANSWER

if TYPE_CHECKING:
    from collections.abc import Callable

    from swarm.hypervisor.connection import Libvirt

__all__ = ["ask"]

Answer = TypeVar("Answer")


def ask(uri: str, question: Callable[[Libvirt], Answer], limit: float = ANSWER) -> Answer:
    """Return what `question` returns for a connection to the hypervisor, within `limit` seconds.

    Raise Unfit if there is no answer in time, and whatever the question raises.
    """
    from swarm.hypervisor.connection import Libvirt

    done = SimpleQueue[tuple[Answer | None, BaseException | None]]()

    def work() -> None:
        try:
            with Libvirt(uri) as connection:
                answer = question(connection)
            # Only now: leaving the block stops an embedded hypervisor that was started for the question.
            done.put((answer, None))
        except BaseException as error:  # noqa: BLE001 - it is raised again, in the thread that waits
            done.put((None, error))

    # A daemon: libvirt can't be interrupted while it connects, and must not keep the program from ending.
    Thread(target=work, daemon=True).start()
    try:
        answer, error = done.get(timeout=limit)
    except Empty:
        raise Unfit(f"{uri} did not answer within {limit:.0f} s", "check that the hypervisor is on") from None
    if error is not None:
        raise error
    return answer  # type: ignore[return-value] # None only if the question returned it
