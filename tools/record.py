"""Record swarm's commands from a real run in a new clone: `.venv/bin/python tools/record.py` writes docs/*.svg.

The program types into a shell in a pseudo-terminal, and keeps everything that the terminal shows with its time. It does
not touch the user's own swarm: the clone, its state and its image cache are in a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pyte

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path[0] = str(ROOT)

from tools import film  # noqa: E402 - only found by what stands above

if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS, ROWS = 100, 60
_PROMPT = "$ "
_TYPING = 0.05  # seconds between two keys
_LIMIT = 5400.0  # seconds for one command; installing OpenClaw in an emulated VM takes half an hour
_LOOK = 0.1  # seconds between two pictures

RECORDINGS = {
    "demo": (
        "swarm, from a bare clone to a VM",
        (
            "./inv provision --host demo",
            "./inv ssh --host demo -- uname -a",
            "./inv provision --host demo",
            "./inv status --host demo",
        ),
    ),
    "test": ("swarm's quick tests", ("./inv test --quick",)),
    "up": (
        "swarm, from a bare clone to an OpenClaw host with every promise tested",
        ("./inv up --host demo", "./inv install --host demo"),
    ),
}

STILL = {"up"}  # half an hour is no film


class Terminal:
    """A shell in a pseudo-terminal, started in a folder with an environment, and what its screen showed when."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self.shots: list[film.Shot] = []
        self._stream = pyte.ByteStream(self.screen)
        self._start = self._last = time.monotonic()
        self._child, self._master = pty.fork()
        if not self._child:
            os.chdir(folder)
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment)  # noqa: S606 - records a shell
        size = f"rows {ROWS} columns {COLUMNS}".split()
        subprocess.run(["stty", *size], stdin=self._master, check=True)
        self._until_prompt(10.0)

    def type(self, command: str) -> None:
        """Type a command, and return when the shell asks for the next one. Raise TimeoutError if it does not."""
        for sign in command:
            os.write(self._master, sign.encode())
            self._read(_TYPING)
            self._shoot()
        os.write(self._master, b"\r")
        self._read(_TYPING)
        self._until_prompt(_LIMIT)

    def close(self) -> None:
        """End the shell with all that it runs, as closing a terminal does."""
        os.kill(self._child, signal.SIGHUP)
        os.close(self._master)
        os.waitpid(self._child, 0)

    def _until_prompt(self, limit: float) -> None:
        end = time.monotonic() + limit
        while self.screen.display[
            self.screen.cursor.y
        ].rstrip() != _PROMPT.rstrip() or self.screen.cursor.x != len(_PROMPT):
            if time.monotonic() > end:
                raise TimeoutError(
                    f"the command did not end within {limit:.0f} s; the screen shows:\n"
                    + "\n".join(self.screen.display)
                )
            self._read(_LOOK)
            self._shoot()

    def _read(self, limit: float) -> None:
        """Read what the terminal is told for `limit` seconds."""
        end = time.monotonic() + limit
        while (left := end - time.monotonic()) > 0:
            if select.select([self._master], [], [], left)[0]:
                # pyte does not know faint text; dark grey is what terminals make of it.
                self._stream.feed(re.sub(rb"\x1b\[2m", b"\x1b[90m", os.read(self._master, 1 << 16)))

    def _shoot(self) -> None:
        self.shots.append(film.shot(self.screen, time.monotonic() - self._start))


def record(name: str, clone: Path, environment: dict[str, str], target: Path) -> None:
    """Run the commands of one recording in `clone` and write what was seen to `target`."""
    title, commands = RECORDINGS[name]
    terminal = Terminal(clone, environment)
    try:
        for command in commands:
            terminal.type(command)
    finally:
        terminal.close()
    target.write_text(film.svg(terminal.shots, title, still=name in STILL), encoding="utf-8")
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB, {terminal.shots[-1].at:.0f} s recorded")


def main() -> None:
    """Make a new clone in a temporary folder, record in it, and remove all of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which: {', '.join(RECORDINGS)} (default: all)"
    )
    parser.add_argument(
        "--cache",
        action="store_true",
        help="use this machine's image cache, instead of building the image anew",
    )
    options = parser.parse_args()
    names: Sequence[str] = options.names or list(RECORDINGS)
    if unknown := set(names) - set(RECORDINGS):
        parser.error(f"there is no {', '.join(unknown)}")
    folder = Path(tempfile.mkdtemp(prefix="swarm-film-", dir="/tmp"))  # short, since sockets are in it
    clone = folder / "swarm"
    kept = {
        name: os.environ[name] for name in ("HOME", "LOGNAME", "PIP_CACHE_DIR", "USER") if name in os.environ
    }
    environment = kept | {
        "PATH": os.environ["PATH"],
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "PS1": _PROMPT,
    }
    environment["SWARM_STATE"] = str(folder / "state")
    if not options.cache:
        environment["SWARM_CACHE"] = str(folder / "cache")
    try:
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        for name in names:
            record(name, clone, environment, ROOT / "docs" / f"{name}.svg")
    finally:
        # The VM that demo made goes with its hypervisor.
        stop = "from swarm.embedded import Embedded; Embedded().stop()"
        python = clone / ".venv/bin/python"
        if python.exists():
            subprocess.run([str(python), "-c", stop], cwd=clone, env=environment, check=False)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
