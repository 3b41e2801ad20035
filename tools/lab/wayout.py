"""A machine's way to the package registries: pasta, replaced whenever it stops responding.

Debian 12's pasta can hang after hundreds of connections, which an installation with pnpm makes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from swarm.paths import ROOT
from tools.lab.process import LabError, run

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["WayOut"]

# pasta goes through this computer's own sockets. It runs as root to be able to enter the namespace.
_PASTA = ("--config-net", "--quiet", "--no-map-gw", "--runas=0", "-tnone", "-unone", "-Tnone", "-Unone")
_AGAIN = 1.0  # seconds between two attempts to start pasta
_PROBE = "import sys; from swarm.embedded import pulse; pulse.wait_for_silence(*sys.argv[1:])"


class WayOut:
    """The pasta of one network namespace, from now until close(). Raise LabError if it does not start."""

    def __init__(self, netns: str, pid_file: Path) -> None:
        self._netns, self._pid_file = netns, pid_file
        self._closed = threading.Event()
        self._probe: subprocess.Popen[bytes] | None = None
        self._open()
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def pid(self) -> int:
        """The process ID of pasta, 0 while it starts."""
        return int(self._pid_file.read_text() or 0)

    def close(self) -> None:
        """Stop watching. pasta itself ends with its namespace."""
        self._closed.set()
        if self._probe is not None:
            self._probe.kill()

    def _open(self) -> None:
        """Start pasta, which returns when the way is open."""
        run("pasta", "--netns", f"/run/netns/{self._netns}", "-P", self._pid_file, *_PASTA)

    def _watch(self) -> None:
        with contextlib.suppress(LabError):  # the namespace is gone
            (route,) = json.loads(run(*self._inside("ip", "-j", "route", "show", "default")))[:1]
            while not self._closed.is_set():
                self._wait_for_silence(route["dev"], route["gateway"])
                if not self._closed.is_set():
                    self._replace()

    def _wait_for_silence(self, interface: str, address: str) -> None:
        """Block until the gateway has stopped answering, or close() has been called."""
        command = self._inside(sys.executable, "-P", "-c", _PROBE, interface, address)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment) as self._probe:
            if self._closed.is_set():
                self._probe.kill()

    def _replace(self) -> None:
        if pid := self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while not self._closed.wait(_AGAIN):
            with contextlib.suppress(LabError):  # the interface of the killed one may not be gone yet
                self._open()
                return

    def _inside(self, *command: str) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self._netns}", *command]
