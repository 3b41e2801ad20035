"""`inv hook.tail`: show events as they arrive, until Ctrl-C."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.agentmon.view import HEADER, Watch, line, summary
from swarm.console import escape

if TYPE_CHECKING:
    from collections.abc import Collection

    from swarm.agentmon.envelope import Event
    from swarm.agentmon.receiver import Delivery, Receiver
    from swarm.console import Talk

__all__ = ["tail"]

# Seconds. Python notices a signal only before it waits or when it is woken: one that arrives in between would be
# lost until the next event.
_TURN = 0.2


def tail(
    receiver: Receiver, talk: Talk, *, clients: Collection[str] = (), count: int = 0, as_json: bool = False
) -> Watch:
    """Show events on stdout until Ctrl-C, or until `count` have been shown. Return what arrived.

    `clients` limits it to the events of these client ids. Refused requests, gaps and repeats are talk, on stderr,
    except that the table marks them in place.
    """
    watch = Watch()
    try:
        if not as_json:
            talk.screen.data(f"[bold]{HEADER}[/]")
        while not count or watch.total < count:
            with receiver.take(_TURN) as delivery:
                if delivery is not None:
                    _show(delivery, watch, talk, clients, as_json=as_json)
    finally:
        watch.refused += receiver.lost
        talk.say(summary(watch))
    return watch


def _show(delivery: Delivery, watch: Watch, talk: Talk, clients: Collection[str], *, as_json: bool) -> None:
    if delivery.problem:
        watch.refused += 1
        talk.warn(f"refused a request of {delivery.client} with {delivery.status}: {delivery.problem}")
    for event in delivery.events:
        if not clients or event.client_id in clients:
            notes = watch.see(event)
            if as_json:
                for note in notes:
                    talk.warn(f"{event.client_id}: {note}")
                talk.screen.json(event.data, indent=None)
            else:
                _row(event, notes, talk)


def _row(event: Event, notes: list[str], talk: Talk) -> None:
    for note in notes:
        talk.screen.data(f"[yellow]  ↳ {escape(f'{event.client_id}: {note}')}[/]")
    text = escape(line(event))
    talk.screen.data(f"[red]{text}[/]" if event.type == "error" else text)
