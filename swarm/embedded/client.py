"""The interface to the embedded hypervisor: start it, stop it, and connect to libvirt and to its guests."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

from swarm.deadline import Deadline
from swarm.embedded import broker
from swarm.embedded.host import FULL, NO_WAY_OUT
from swarm.errors import HypervisorError, Unfit
from swarm.files import private_dir
from swarm.locks import hold, try_lock
from swarm.paths import ROOT, state_dir

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from swarm.locks import Lock

__all__ = ["Embedded", "as_root"]

_SOCKET_PATH_LIMIT = 107  # bytes for a path in struct sockaddr_un, without the terminating null
_PATIENCE = 1.0  # seconds to wait for other users: hosts destroyed in parallel finish at about the same time
_STOPPED_WITHIN = 10.0  # seconds; the kernel ends a PID namespace in a fraction of one


def as_root(argv: list[str]) -> list[str]:
    """Return a command that runs `argv` as root: `argv` itself for root, with sudo for other users."""
    return argv if os.geteuid() == 0 else ["sudo", "--", *argv]


class Embedded:
    """The private hypervisor of a state directory, by default swarm's own."""

    def __init__(self, state: Path | None = None) -> None:
        self.state = (state or state_dir()) / "hypervisor"
        self.broker = self.state / "run" / "broker.sock"
        self._socket = self.state / "run" / "libvirt-sock"

    @property
    def uri(self) -> str:
        """The URI for libvirt's client library."""
        return f"qemu+unix:///system?socket={quote(str(self._socket))}"

    @property
    def exists(self) -> bool:
        """Whether it was ever started and may therefore have domains."""
        return (self.state / "lib").is_dir()

    @property
    def running(self) -> bool:
        """Whether its broker responds."""
        try:
            broker.ask(self.broker, {"ping": True})
        except broker.Closed:
            return False
        return True

    def start(self) -> bool:
        """Start it unless it is running. Return True if this call started it.

        Users other than root may have to enter their password for sudo. Raise Unfit if it cannot run here.
        """
        if self.running:
            return False
        if len(os.fsencode(self._socket)) > _SOCKET_PATH_LIMIT:
            raise Unfit(
                f"the path {self._socket} is too long for a Unix socket",
                "set SWARM_STATE to a directory with a shorter path",
            )
        private_dir(self.state.parent)
        argv = [
            sys.executable,
            "-I",
            "-B",
            str(ROOT / "swarm/embedded/host.py"),
            "start",
            str(self.state),
            str(os.getuid()),
            str(os.getgid()),
        ]
        done = subprocess.run(as_root(argv), capture_output=True, text=True, check=False)
        if done.returncode:
            messages = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            hint = f"run ./inv doctor to check this machine; the full output is in {self.state}/host.log"
            if messages[-1].startswith(FULL):
                hint = "make room there, or set SWARM_STATE to a directory elsewhere"
            raise Unfit(f"the embedded hypervisor does not start: {messages[-1]}", hint)
        return done.stdout == "started\n"  # another command may have started it first

    def stop(self) -> bool:
        """Stop it immediately, with everything that runs in it. Return True if it was running.

        Raise HypervisorError if its processes have not ended within 10 seconds.
        """
        try:
            broker.ask(self.broker, {"stop": True})
        except broker.Closed:
            return False
        deadline = Deadline(_STOPPED_WITHIN)
        while (lock := try_lock(self.state / "alive.lock", shared=True, create=False)) is None:
            if not deadline.pause(0.01):
                raise HypervisorError(
                    f"the embedded hypervisor did not stop within {_STOPPED_WITHIN:g} s",
                    f"look for the cause in {self.state}/host.log",
                )
        lock.release()
        return True

    def use(self) -> AbstractContextManager[Lock]:
        """Return a context manager that keeps it running: other processes' `stop_if` does nothing during the block."""
        private_dir(self.state.parent)
        return hold(self.state.parent / "hypervisor.users", shared=True)

    def stop_if(self, idle: Callable[[], bool]) -> bool:
        """Stop it if no process uses it and `idle()` returns True. Return True if this call stopped it.

        No other process can start using it while `idle()` runs.
        """
        try:
            with hold(self.state.parent / "hypervisor.users", deadline=Deadline(_PATIENCE)):
                return self.running and idle() and self.stop()
        except TimeoutError:
            return False

    def connect(self, host: str, port: int, limit: float = 10.0) -> socket.socket:
        """Return a TCP connection to a guest, or raise OSError. Connecting may take at most `limit` seconds."""
        return broker.connect(self.broker, host, port, limit)

    @property
    def no_way_out(self) -> str | None:
        """Why guests cannot reach outside networks, or None if they can."""
        return next(iter(self.log_tail(NO_WAY_OUT, 1)), None)

    def log_tail(self, name: str, lines: int = 5) -> list[str]:
        """Return the last `lines` lines of a log such as 'log/libvirtd.log', or an empty list if it is not readable."""
        with contextlib.suppress(OSError):
            return (self.state / name).read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        return []
