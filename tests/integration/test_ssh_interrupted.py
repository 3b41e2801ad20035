"""Ctrl-C while ssh connects, which reaches the programs that connect for it too."""

from __future__ import annotations

import selectors
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm.deadline import Deadline
from swarm.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def _silent_port() -> Iterator[tuple[list[str], Callable[[], bool]]]:
    """Give the dialer's arguments for a port that does not answer, and what says whether it is being connected to."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        place = listening.getsockname()
        for _ in range(2):  # the queue of connections is full then
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)  # noqa: FBT003 - the standard library's signature
            with suppress(BlockingIOError):
                waiting.connect(place)
        dialing = f" 0100007F:{place[1]:04X} 02 "  # SYN_SENT
        before = Path("/proc/net/tcp").read_text().count(dialing)
        yield (
            ["ssh/dial.py", *map(str, place)],
            lambda: Path("/proc/net/tcp").read_text().count(dialing) > before,
        )


@contextmanager
def _silent_broker(folder: Path) -> Iterator[tuple[list[str], Callable[[], bool]]]:
    """Give the broker's arguments for a hypervisor that does not answer, and what says whether it was asked."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        listening.listen()
        asked = selectors.DefaultSelector()
        asked.register(listening, selectors.EVENT_READ)
        yield (
            ["embedded/broker.py", str(folder / "socket"), "192.0.2.1", "22"],
            lambda: bool(asked.select(0)),
        )


@pytest.mark.parametrize("broker", [False, True], ids=["dialer", "broker"])
def test_ctrl_c_while_connecting_is_no_traceback(tmp_path: Path, *, broker: bool) -> None:
    """Ctrl-C ends the programs that connect for ssh without a word."""
    with _silent_broker(tmp_path) if broker else _silent_port() as (words, begun):
        argv = [sys.executable, "-I", "-S", str(ROOT / "swarm" / words[0]), *words[1:]]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
            deadline = Deadline(10)
            while not begun() and deadline.pause(0.01):
                pass
            running.send_signal(signal.SIGINT)
            assert running.communicate(timeout=5)[1] == b""
        assert running.returncode
