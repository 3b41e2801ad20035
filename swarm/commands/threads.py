"""Call a function for several hosts in threads, and let Ctrl-C reach each of them as it reaches a single host."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread, current_thread
from typing import TYPE_CHECKING, Generic, TypeVar

from swarm.console import Talk, screen
from swarm.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from swarm.inventory import Host

__all__ = ["side_by_side"]

Result = TypeVar("Result")

_PATIENCE = 60.0  # seconds after Ctrl-C in which the hosts can clean up
_QUICK = 0.5  # seconds of waiting that need no explanation
_POLL = 0.05


def side_by_side(one: Callable[[Host], Result], hosts: Sequence[Host], at_once: int) -> list[Result]:
    """Call `one` for each host in threads, `at_once` at a time, and return the results in order. Raise what it raises.

    Ctrl-C, or anything else that ends the run, interrupts every thread, so that each cleans up like a single host. No
    other host begins. The wait for the threads is limited, and ends at the next Ctrl-C.
    """
    team = _Team(one, hosts)
    try:
        for _ in range(min(at_once, len(hosts))):
            # A daemon: Python must not wait for it once the wait for it has ended.
            Thread(target=team.work, daemon=True).start()
        import ctypes  # noqa: F401 - needed at Ctrl-C, when each moment counts; loading takes 10 ms

        return team.results()
    except BaseException:
        team.stop()
        raise


class _Team(Generic[Result]):
    """The threads, and what they work on."""

    def __init__(self, one: Callable[[Host], Result], hosts: Sequence[Host]) -> None:
        self._one, self._stopping = one, False
        self._busy: dict[Thread, str] = {}  # the host of each thread that has one
        self._todo: SimpleQueue[tuple[int, Host]] = SimpleQueue()
        self._done: SimpleQueue[tuple[int, Result | None, BaseException | None]] = SimpleQueue()
        self._count = len(hosts)
        for item in enumerate(hosts):
            self._todo.put(item)

    def work(self) -> None:
        """Work on one host after another. This is what each thread runs."""
        with suppress(Empty, KeyboardInterrupt):  # it may arrive late, when a host has just ended
            while not self._stopping:
                number, host = self._todo.get_nowait()
                self._busy[current_thread()] = host.name
                try:
                    self._done.put((number, self._one(host), None))
                except BaseException as error:  # noqa: BLE001 - it is raised again, in the thread that waits
                    self._done.put((number, None, error))
                self._busy.pop(current_thread(), None)

    def results(self) -> list[Result]:
        """Wait for all hosts and return their results. Raise the first error."""
        found: dict[int, Result] = {}
        for _ in range(self._count):
            number, result, error = self._done.get()
            if error is not None:
                raise error
            found[number] = result  # type: ignore[assignment] # None only if `one` has returned it
        return [found[number] for number in sorted(found)]

    def stop(self) -> None:
        """Raise KeyboardInterrupt in every thread that works on a host, and wait until they have cleaned up."""
        self._stopping = True
        told, interrupted, deadline = False, set[Thread](), Deadline(_PATIENCE)
        while busy := {thread: host for thread, host in tuple(self._busy.items()) if thread.is_alive()}:
            interrupted |= {thread for thread in busy.keys() - interrupted if _interrupt(thread)}
            names = ", ".join(sorted(busy.values()))
            if not told and deadline.elapsed > _QUICK:
                told = True
                Talk(screen()).say(f"waiting for {names} to clean up; press Ctrl-C again to leave at once")
            if not deadline.pause(_POLL):
                Talk(screen()).warn(f"{names} did not clean up within {_PATIENCE:.0f} s")
                return


def _interrupt(thread: Thread) -> bool:
    """Raise KeyboardInterrupt in a thread and end the programs that it waits for. Return False if it can't be now.

    A thread that handles an exception is left alone: a terminal's Ctrl-C reaches ssh and rsync too, and if they end
    first, their thread is cleaning up already.
    """
    import ctypes

    raised = ctypes.pythonapi.PyThreadState_SetAsyncExc
    programs = _children(thread)
    # The thread must get no turn between the question and the interrupt: it could begin to clean up. So nothing in
    # between reads a file or waits.
    if thread.ident is None or _handles_exception(thread.ident):
        return False
    # It takes effect as soon as the thread runs Python code again, which is when the program has ended.
    raised(ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt))
    for pid in programs:
        with suppress(OSError):  # it has ended, or sudo made it root's
            if os.getpgid(pid) == os.getpgrp():  # another group shields a program from a terminal's Ctrl-C
                os.kill(pid, signal.SIGTERM)
    return True


def _handles_exception(ident: int) -> bool:
    """Whether a thread is in an `except` or `finally` block, because of an exception."""
    found = sys._current_exceptions().get(ident)  # noqa: SLF001 - documented; there is no public way
    return bool(found and (found[0] if isinstance(found, tuple) else found))  # a tuple before Python 3.12


def _children(thread: Thread) -> list[int]:
    """Return the process IDs of the programs that a thread has started and that still run."""
    with suppress(OSError):  # the thread has ended, or the kernel does not say
        words = Path(f"/proc/self/task/{thread.native_id}/children").read_text(encoding="ascii")
        return [int(word) for word in words.split()]
    return []
