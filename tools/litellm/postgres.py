"""A PostgreSQL that is thrown away after the tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from swarm.deadline import Deadline
from tools.lab.process import LabError, run, tail

__all__ = ["Cluster", "binaries"]

_WITHIN = 60.0  # seconds to start or to stop, on a busy machine
# Nothing needs to survive a crash of this computer.
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "unix_socket_directories=")


def binaries() -> Path | None:
    """Return the folder of the newest initdb and postgres, or None if PostgreSQL is not installed."""
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = sorted(found, key=lambda path: int(path.parts[-3]))
    return newest[-1].parent if newest else None


class Cluster:
    """A cluster in an empty folder that other users can enter. PostgreSQL refuses to run as root."""

    def __init__(self, folder: Path, port: int) -> None:
        bin_ = binaries()
        if bin_ is None:
            raise LabError("PostgreSQL is not installed")
        self._bin, self._data, self._log, self.port = bin_, folder / "data", folder / "log", port
        self._as: dict[str, Any] = {"cwd": folder}
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            self._as |= {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(folder, "postgres", "postgres")
        words = ("-D", self._data, "-U", "litellm", "-A", "trust", "--no-locale", "-E", "UTF8", "--no-sync")
        done = subprocess.run(
            [self._bin / "initdb", *words], **self._as, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise LabError(f"initdb failed: {tail(done.stderr)}")

    def url(self, database: str = "litellm") -> str:
        """Return the address of a database."""
        return f"postgresql://litellm@127.0.0.1:{self.port}/{database}"

    @property
    def running(self) -> bool:
        """Whether the server runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        settings = (*_FAST, "listen_addresses=127.0.0.1", f"port={self.port}")
        words = [word for setting in settings for word in ("-c", setting)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, *words], **self._as, stdout=log, stderr=log
            )
        deadline = Deadline(_WITHIN)
        while not self.answers():
            if self._process.poll() is not None or not deadline.pause(0.05):
                raise LabError(f"PostgreSQL did not start: {tail(self._log.read_text())}")

    def stop(self) -> None:
        """Stop the server, which breaks its connections. Do nothing if it does not run."""
        if self._process:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_WITHIN)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait()
            self._process = None

    def psql(self, *words: str | Path, database: str = "litellm") -> str:
        """Run psql, which ends at the first error. Return its output: one line for each row, columns separated by |."""
        return run("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", self.url(database), *words)

    def answers(self) -> bool:
        """Return whether the server accepts connections."""
        words = ("-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "litellm")
        return subprocess.run([self._bin / "pg_isready", *words], check=False).returncode == 0
