"""The embedded hypervisor for the rest of swarm: start, stop, URI, and sockets into its network."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

from swarm.deadline import Deadline
from swarm.embedded import broker
from swarm.embedded.host import NO_WAY_OUT
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

_SOCKET_PATH_LIMIT = 107  # bytes that struct sockaddr_un has for a path, less its end
_PATIENCE = 1.0  # seconds: hosts that are destroyed side by side end at about the same time
_STOPPED_WITHIN = 10.0  # seconds; the kernel needs a fraction of one to end a process namespace


def as_root(argv: list[str]) -> list[str]:
    """Return `argv` as a command that runs as root: itself for root, through sudo for others."""
    return argv if os.geteuid() == 0 else ["sudo", "--", *argv]


class Embedded:
    """The private hypervisor of a state folder, by default swarm's own."""

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
        """Whether it was ever started, so that it may have domains."""
        return (self.state / "lib").is_dir()

    @property
    def running(self) -> bool:
        """Whether it answers."""
        try:
            broker.ask(self.broker, {"ping": True})
        except broker.Closed:
            return False
        return True

    def start(self) -> bool:
        """Start it unless it is running, and return whether it was started. Raise Unfit if it cannot run here.

        A person who is not root is asked for a password by sudo.
        """
        if self.running:
            return False
        if len(os.fsencode(self._socket)) > _SOCKET_PATH_LIMIT:
            raise Unfit(
                f"the path {self._socket} is too long for a Unix socket",
                "set SWARM_STATE to a folder with a shorter path",
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
            words = done.stderr.strip().splitlines() or ["no reason given"]
            raise Unfit(
                f"the embedded hypervisor does not start: {words[-1]}",
                f"run ./inv doctor to check this machine; the full output is in {self.state}/host.log",
            )
        return done.stdout == "started\n"  # another command may have been faster

    def stop(self) -> bool:
        """Stop it at once, with everything that runs in it. Return whether it was running."""
        try:
            broker.ask(self.broker, {"stop": True})
        except broker.Closed:
            return False
        deadline = Deadline(_STOPPED_WITHIN)
        while (lock := try_lock(self.state / "alive.lock", shared=True, create=False)) is None:
            if not deadline.pause(0.01):
                raise HypervisorError(
                    "the embedded hypervisor does not stop", f"{self.state}/host.log may say why"
                )
        lock.release()
        return True

    def use(self) -> AbstractContextManager[Lock]:
        """Keep it running: during the block, `stop_if` of other processes does nothing."""
        private_dir(self.state.parent)
        return hold(self.state.parent / "hypervisor.users", shared=True)

    def stop_if(self, idle: Callable[[], bool]) -> bool:
        """Stop it unless it is in use, and return whether it was stopped. `idle()` is asked while it is locked."""
        try:
            with hold(self.state.parent / "hypervisor.users", deadline=Deadline(_PATIENCE)):
                return self.running and idle() and self.stop()
        except TimeoutError:
            return False

    def connect(self, host: str, port: int, limit: float = 10.0) -> socket.socket:
        """Return a TCP connection to a guest, made within `limit` seconds. Raise OSError."""
        return broker.connect(self.broker, host, port, limit)

    @property
    def no_way_out(self) -> str | None:
        """Why guests reach no network outside, or None if they do."""
        return next(iter(self.log_tail(NO_WAY_OUT, 1)), None)

    def log_tail(self, name: str, lines: int = 5) -> list[str]:
        """Return the last `lines` lines of a log such as 'log/libvirtd.log', or none if it is not readable."""
        with contextlib.suppress(OSError):
            return (self.state / name).read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        return []
