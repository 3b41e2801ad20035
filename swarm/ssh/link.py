"""The kept connection to one host: OpenSSH's own control master, in a directory that only its owner can enter.

Little is imported here, since the connection begins as soon as this module is loaded. The control socket's
name is made from the SSH configuration and the pinned host keys, so a host with a new pin gets a new
connection.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import selectors
import subprocess
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.deadline import Deadline
from swarm.errors import UsageError
from swarm.ssh.reasons import Ending, explain, needs_dialer
from swarm.ssh.session import Limits, Session, surroundings
from swarm.ssh.sockets import socket_dir, socket_name
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

    from swarm.errors import CommandFailed, Unreachable
    from swarm.ssh.conversation import Running

__all__ = ["Link"]

_GONE = 2.0  # seconds that a connection has to end once it was told to
_PERSIST = 120  # seconds that an unused connection is kept: a person's pause between two commands
_CONNECT = 20  # seconds to connect: a loaded guest under emulation needs up to ten for the key exchange
_MESSAGE = 4096  # bytes of ssh's own messages; they have a few hundred
_ALIVE = 5  # seconds between two keepalives; three without an answer (15 s) mean that the network is down
# Seconds. A lost SYN is repeated after 1, 3 and 7 s, so a new attempt is faster.
_BOOTING = {"SWARM_DIAL_LIMIT": "2"}


class Link:
    """How one host is reached: `ssh -F CONFIG ALIAS`. With `root`, commands run as root, by sudo if necessary.

    `booting` is for a guest that may not be up yet: attempts to connect are short, and nothing is asked why they fail.
    `direct` is for many hosts at once: our dialer saves 40 ms of waiting for each and costs 10 ms of the processor, and
    then the latter is what counts.
    """

    direct = False

    def __init__(self, config: Path, alias: str, *, root: bool = True, booting: bool = False) -> None:
        self.config = config.resolve()
        self.alias = alias
        self.root = root
        self._booting = booting
        self._waiting: Session | None = None
        self._taking = threading.Lock()  # several threads may run commands at the same time

    @property
    def is_connected(self) -> bool:
        """Whether a connection is kept."""
        return self.control_path.exists()

    def connect(self) -> None:
        """Start to connect, and return at once: the caller can prepare its script meanwhile."""
        with self._taking:
            if self._waiting is None:
                self._waiting = self.session()

    @contextlib.contextmanager
    def connecting(self) -> Iterator[None]:
        """Connect while the block runs. If the block raises, the connection is given up."""
        self.connect()
        try:
            yield
        except BaseException:
            self.give_up()
            raise

    def give_up(self) -> None:
        """End a connection that was started and not used. A kept one stays."""
        with self._taking:
            session, self._waiting = self._waiting, None
        if session is not None:
            session.kill()

    def take(self) -> Session:
        """Return the session that connect() has started, or a new one."""
        with self._taking:
            session, self._waiting = self._waiting, None
        return session or self.session()

    def session(self) -> Session:
        """Return a new session. Raise UsageError without an SSH configuration, Unfit without ssh."""
        if not self.config.is_file():
            raise UsageError(f"there is no SSH configuration {self.config}")
        # The first process belongs to root, also in a container, and this test starts no program.
        become = f"exec sh -c {quote('if [ -O /proc/1 ]; then exec sh; else exec sudo -n -- sh; fi')}"
        shell = become if self.root and self._users != {"root"} else "exec sh"
        return Session([*self.command(), "--", self.alias, shell], _BOOTING if self._booting else None)

    def script(self, script: str, take: Callable[[bytes], None], limits: Limits | None = None) -> Running:
        """Send `script` and return at once. Each line that it prints is given to `take` from another thread.

        Nothing of the output is kept. join() returns the exit code, and raises what `take` raised, Unreachable if the
        connection fails, or CommandFailed if a limit is exceeded.
        """
        from swarm.ssh.conversation import Running

        return Running(self, script, take, limits or Limits())

    def close(self) -> None:
        """End the kept connection, if there is one, and every command that runs over it."""
        self.give_up()
        self._control("exit")

    def renew(self) -> None:
        """Let the next command connect again. Commands that run over the kept connection finish."""
        self.give_up()
        self._control("stop")

    def _control(self, order: str) -> None:
        if self.control_path.exists():
            with contextlib.suppress(subprocess.TimeoutExpired):
                words = [*self.command(), "-O", order, "--", self.alias]
                subprocess.run(words, check=False, capture_output=True, timeout=10)
            # ssh answers before it removes its socket, which a new connection must not find.
            gone = Deadline(_GONE)
            while self.control_path.exists() and gone.pause(0.005):
                pass

    def explain(self, ending: Ending) -> Unreachable | CommandFailed:
        """Return the error that says why a conversation ended early."""
        limit = min(_CONNECT, ending.left)
        if needs_dialer(ending.messages) and not self._booting and limit > 0:
            ending = ending._replace(messages=self._ask_dialer(limit) or ending.messages)
        return explain(self.alias, self.config, ending)

    def command(self) -> list[str]:
        """Return how ssh is called, up to the destination."""
        return ["ssh", "-F", str(self.config), *self.options()]

    def options(self) -> list[str]:
        """Return the options that make ssh share one connection, trust only the pinned key and never prompt."""
        return [part for key, value in self._settings().items() for part in ("-o", f"{key}={_word(value)}")]

    def own_config(self) -> str:
        """Return an SSH configuration that holds these options too, for programs that take no options for ssh."""
        lines = "".join(f"    {key} {_word(value)}\n" for key, value in self._settings().items())
        # Of two values, ssh uses the first.
        return f"Host {self.alias}\n{lines}\n{self._text}"

    @cached_property
    def control_path(self) -> Path:
        """The control socket. It changes when the configuration or a pinned host key changes."""
        seal = hashlib.sha256(f"{self.config}\0{self.alias}\0".encode())
        if self.config.is_file():
            content = self.config.read_bytes()
            seal.update(content)
            text = os.fsdecode(content)
            for name in re.findall(
                r"^\s*UserKnownHostsFile[ =]+(.+?)\s*$", text, re.MULTILINE | re.IGNORECASE
            ):
                path = Path(_plain(name))
                seal.update(path.read_bytes() if path.is_file() else b"")
        return socket_dir() / socket_name(seal.digest())

    def _settings(self) -> dict[str, str]:
        return {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",  # stated here again, so that no configuration can weaken it
            "ConnectTimeout": str(_CONNECT),
            "ServerAliveInterval": str(_ALIVE),
            "ServerAliveCountMax": "3",
            "ControlMaster": "auto",
            "ControlPersist": str(_PERSIST),
            "ControlPath": str(self.control_path).replace("%", "%%"),
            "LogLevel": "INFO",  # below that, ssh does not say why it cannot negotiate
            "ForwardAgent": "no",
            "RequestTTY": "no",
            **({"ProxyCommand": "none"} if self.direct and self._dialed else {}),
        }

    @property
    def _users(self) -> set[str]:
        """The login users in the configuration."""
        return set(re.findall(r"^\s*User\s+(.+?)\s*$", self._text, re.MULTILINE | re.IGNORECASE))

    @property
    def _dialed(self) -> bool:
        """Whether ssh's ProxyCommand is only our dialer, and leads through nothing."""
        return "/swarm/ssh/dial.py" in self._text

    @property
    def _text(self) -> str:
        """The SSH configuration, as it is now."""
        return self.config.read_text(encoding="utf-8", errors="replace")

    def _ask_dialer(self, limit: float) -> str:
        """Connect again without a kept connection, since ssh otherwise discards what its ProxyCommand says.

        A guest can provoke this with ssh's own words, so time (`limit`, in seconds) and output are limited here too.
        """
        alone = ["-o", "ControlPath=none", "-o", "ControlMaster=no", "-o", "ControlPersist=no"]
        command = ["ssh", "-F", str(self.config), *alone, *self.options(), "--", self.alias, "true"]
        pipe, devnull = subprocess.PIPE, subprocess.DEVNULL
        with subprocess.Popen(
            command, stdin=devnull, stdout=devnull, stderr=pipe, env=surroundings()
        ) as process:
            assert process.stderr is not None  # noqa: S101 - a pipe, as asked for
            try:
                return _beginning(process.stderr, Deadline(limit)).decode("utf-8", "replace")
            finally:
                process.kill()


def _beginning(stream: IO[bytes], deadline: Deadline) -> bytes:
    """Return what arrives until the stream ends, time is up, or a message of ssh would be much shorter."""
    found = b""
    with selectors.DefaultSelector() as ready:
        ready.register(stream, selectors.EVENT_READ)
        while len(found) < _MESSAGE and ready.select(deadline.remaining):
            data = os.read(stream.fileno(), _MESSAGE)
            if not data:
                break
            found += data
    return found


def _plain(word: str) -> str:
    """Return the path that one argument of ssh_config stands for."""
    if word[0] == word[-1] == '"':
        word = re.sub(r'\\([\\"])', r"\1", word[1:-1])
    return word.replace("%%", "%")


def _word(value: str) -> str:
    """Return a value as one argument of ssh_config."""
    if not re.search(r"""[\s"'\\#]""", value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
