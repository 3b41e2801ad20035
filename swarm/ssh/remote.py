"""One shell script to a host and its output back: one round trip over an OpenSSH connection that is kept for the next one.

What is imported here is little, since the connection begins as soon as this module is there.

The script travels on standard input, so nothing of it shows in a process list, and it runs only if it arrived
whole: it is one shell function, called on the last line. What the script reads from its own standard input is
nothing.

The connection is OpenSSH's own control master, one per host, in a folder that only its owner can enter. The
socket's name is made from the SSH configuration and the pinned host keys, so a host with a new pin gets a new
connection.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import subprocess
import threading
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from swarm.errors import CommandFailed, Unfit, Unreachable, UsageError
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from swarm.deadline import Deadline

__all__ = ["ConnectionLost", "NoAnswer", "Outcome", "Remote"]

_PERSIST = 120  # seconds that an unused connection is kept: a person's pause between two commands
_CONNECT = 20  # seconds to connect: a loaded guest under emulation needs up to ten for the key exchange
_ALIVE = 5  # seconds between two signs of life; three missing ones (15 s) mean that the cable is out
_SOCKET_PATH = 107  # bytes that Linux allows in a socket's path
_SOCKET_NAME = 20 + 1 + 17  # our name, a slash, and the random suffix that ssh adds while it makes the socket


class NoAnswer(Unreachable):
    """Nothing answers at the address, or not in time."""


class ConnectionLost(Unreachable):
    """The connection ended while the script was running."""


class Outcome(NamedTuple):
    """What a script left: its exit code and all that it printed, standard error included."""

    code: int
    output: bytes

    @property
    def text(self) -> str:
        """The output as text; bytes that are not UTF-8 survive as surrogates."""
        return self.output.decode("utf-8", "surrogateescape")


class Remote:
    """A host as `ssh -F CONFIG ALIAS` reaches it. With `root`, scripts run as root: by sudo if the login is another user."""

    def __init__(self, config: Path, alias: str, *, root: bool = True) -> None:
        self.config = config.resolve()
        self.alias = alias
        self._root = root
        self._waiting: _Session | None = None

    def connect(self) -> None:
        """Begin to connect, and return at once: the time goes by while the caller prepares its script."""
        if self._waiting is None:
            self._waiting = _Session(self._command())

    @contextlib.contextmanager
    def connecting(self) -> Iterator[None]:
        """Connect while the block runs; if it fails, the connection that was begun is given up."""
        self.connect()
        try:
            yield
        except BaseException:
            self.give_up()
            raise

    def give_up(self) -> None:
        """End a connection that was begun and not used; one that is kept from earlier stays."""
        if self._waiting is not None:
            self._waiting.kill()
            self._waiting = None

    def run(
        self, script: str, on_line: Callable[[str], None] | None = None, deadline: Deadline | None = None
    ) -> Outcome:
        """Run `script` with sh and return its outcome. Each line is given to `on_line` as it arrives.

        Raise Unreachable (one of the classes above) if the host can't be reached or the connection breaks,
        and CommandFailed if the time is up or the host can't read the script.
        """
        return self.begin(script, on_line, deadline)()

    def begin(
        self, script: str, on_line: Callable[[str], None] | None = None, deadline: Deadline | None = None
    ) -> Callable[[], Outcome]:
        """Send `script` on its way, and return the function that waits for its end as run() does.

        What the host does goes by while the caller does something else.
        """
        reused = self.control_path.exists()
        self.connect()
        session, self._waiting = self._waiting, None
        assert session is not None  # noqa: S101 - connect() has just set it
        read = session.talk(script, on_line, deadline)

        def end() -> Outcome:
            try:
                return read()
            except _EndedError as ended:
                error = self._explain(ended)
                # A kept connection may lead to a machine that is gone. The script did not start, so it is
                # safe to knock anew.
                if not reused or ended.started or isinstance(error, CommandFailed):
                    raise error from None
            self.close()
            try:
                return _Session(self._command()).talk(script, on_line, deadline)()
            except _EndedError as ended:
                raise self._explain(ended) from None

        return end

    def check(self, script: str, what: str, deadline: Deadline | None = None) -> str:
        """Run `script` and return its output as text. Raise CommandFailed, which says that `what` failed, unless it exits with 0."""
        outcome = self.run(script, deadline=deadline)
        if outcome.code:
            tail = "\n".join(outcome.text.strip().splitlines()[-5:])
            raise CommandFailed(f"{self.alias}: {what} failed with exit code {outcome.code}", tail or None)
        return outcome.text

    def close(self) -> None:
        """End the kept connection, if there is one."""
        self.give_up()
        if self.control_path.exists():
            subprocess.run(
                [*self._ssh(), "-O", "exit", "--", self.alias], check=False, capture_output=True, timeout=10
            )

    def options(self) -> list[str]:
        """Return the options with which every ssh to this host shares one connection, trusts only the pinned key and asks nothing."""
        return [part for key, value in self._settings().items() for part in ("-o", f"{key}={value}")]

    def own_config(self) -> str:
        """Return an SSH configuration that holds these options too, for programs that can be given nothing else."""
        lines = "".join(f'    {key} "{value}"\n' for key, value in self._settings().items())
        return f"Host {self.alias}\n{lines}\n{self.config.read_text(encoding='utf-8')}"  # of two values, ssh takes the first

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
            "LogLevel": "ERROR",
            "ForwardAgent": "no",
            "RequestTTY": "no",
        }

    def _ssh(self) -> list[str]:
        return ["ssh", "-F", str(self.config), *self.options()]

    def _command(self) -> list[str]:
        if not self.config.is_file():
            raise UsageError(f"there is no SSH configuration {self.config}")
        # Who owns the first process is root, also in a container, and asking so starts no program.
        shell = "if [ -O /proc/1 ]; then exec sh; else exec sudo -n -- sh; fi" if self._root else "exec sh"
        return [*self._ssh(), "--", self.alias, f"exec sh -c {quote(shell)}"]

    @cached_property
    def control_path(self) -> Path:
        """The kept connection's socket: another one as soon as the configuration or a pinned host key is another."""
        seal = hashlib.sha256(f"{self.config}\0{self.alias}\0".encode())
        if self.config.is_file():
            text = self.config.read_text(encoding="utf-8")
            seal.update(text.encode())
            for name in re.findall(
                r'^\s*UserKnownHostsFile[ =]+"?([^"\n]+)"?\s*$', text, re.MULTILINE | re.IGNORECASE
            ):
                seal.update(Path(name).read_bytes() if Path(name).is_file() else b"")
        return _control_dir() / seal.hexdigest()[:20]

    def _words_of_the_dialer(self) -> str:
        """Why no connection can be made: while ssh keeps connections, it sends what its ProxyCommand says nowhere, so it is asked anew."""
        alone = [
            "ssh",
            "-F",
            str(self.config),
            "-o",
            "ControlPath=none",
            "-o",
            "ControlMaster=no",
            "-o",
            "ControlPersist=no",
        ]
        with contextlib.suppress(subprocess.TimeoutExpired):
            command = [*alone, *self.options(), "--", self.alias, "true"]
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_CONNECT
            )
            return done.stderr.decode("utf-8", "replace")
        return ""

    def _explain(self, ended: _EndedError) -> Unreachable | CommandFailed:
        """Turn what ssh said into the error that fits."""
        said, alias = ended.said, self.alias
        if "proxy dialer did not pass back a connection" in said:
            said = self._words_of_the_dialer() or said
        last = said.strip().splitlines()[-1] if said.strip() else f"ssh ended with exit code {ended.code}"
        if ended.late:
            message = f"{alias}: the time for this work ({ended.late:.0f} s) is up"
            return CommandFailed(message, "what is running on the host is finished there; run the same again")
        if ended.started:
            message = f"{alias}: the connection broke while work was going on"
            return ConnectionLost(
                message, "the step that was running ends on its own; run the same command again to finish"
            )
        for pattern, kind, what, hint in _reasons():
            if match := re.search(f".*(?:{pattern}).*", said):
                words = what.format(said=match[0].strip(), config=self.config)
                return kind(f"{alias}: {words}", hint and hint.format(alias=alias))
        if not ended.broken:
            return CommandFailed(f"{alias}: the host could not read the script: {last}")
        return NoAnswer(
            f"{alias}: the connection ended before work began: {last}",
            "it may still be starting, or be going down",
        )


def _reasons() -> tuple[tuple[str, type[Unreachable], str, str | None], ...]:
    """What ssh and sudo print, and what it means; the first match counts."""
    from swarm.ssh.connect import KeyRefused, LoginRefused, PortClosed

    return (
        (
            "HOST IDENTIFICATION HAS CHANGED",
            KeyRefused,
            "the machine that answers shows another host key than the pinned one; nothing was sent to it",
            "if you changed its host key: ./inv pin --host {alias}",
        ),
        (
            "Host key verification failed|host key is known for",
            KeyRefused,
            "no host key is pinned for the machine that answers; nothing was sent to it",
            "./inv provision --host {alias} pins it; no key is ever accepted unseen",
        ),
        (
            r"Permission denied \(|Too many authentication failures",
            LoginRefused,
            "login denied",
            "the key in the SSH configuration must be one that the guest allows",
        ),
        (
            "sudo:|not in the sudoers file",
            LoginRefused,
            "the login user may not become root: {said}",
            "log in as root, or give the user a NOPASSWD rule in sudoers",
        ),
        (
            "Connection refused",
            PortClosed,
            "connection refused: the machine answers, but its SSH server does not",
            "it may still be starting",
        ),
        (
            r"gate: .*: no answer at ",
            NoAnswer,
            "the VM does not run, and neither does the hypervisor that it lives in",
            "./inv start --host {alias}",
        ),
        (
            "timed out|No route to host|Network is unreachable|Could not resolve hostname|Name or service not known",
            NoAnswer,
            "no answer: {said}",
            "is the machine running? `inv status` shows it",
        ),
        (
            "[Bb]ad configuration option|no argument after keyword|Bad owner or permissions|extra arguments at end",
            Unreachable,
            "ssh rejects its configuration {config}: {said}",
            None,
        ),
    )


class _EndedError(Exception):
    """Ssh ended, and the script's end was not seen."""

    def __init__(self, code: int, said: str, *, started: bool, late: float) -> None:
        super().__init__(said)
        self.code, self.said, self.started, self.late = code, said, started, late
        self.broken = code in {
            255,
            -9,
            -15,
        }  # ssh's own code for its own failures, and the signals that end it


class _Session:
    """One ssh process that waits for a script on its standard input."""

    def __init__(self, command: list[str]) -> None:
        # A file (in memory), not a pipe: the control master that stays behind would keep a pipe open for
        # ever.
        self._stderr = os.fdopen(os.memfd_create("ssh-stderr"), "w+b")
        try:
            # SHELL is what ssh runs a ProxyCommand with, and those are written for sh.
            environment = {**os.environ, "SHELL": "/bin/sh"}
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, env=environment
            )
        except FileNotFoundError:
            raise Unfit("the program ssh is missing", "apt-get install openssh-client") from None

    def kill(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            with contextlib.suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()

    def _expire(self, late: threading.Event) -> None:
        late.set()
        self._process.kill()

    def talk(
        self, script: str, on_line: Callable[[str], None] | None, deadline: Deadline | None
    ) -> Callable[[], Outcome]:
        """Hand over the script, and return the function that reads until its end. It raises _EndedError if that end does not come."""
        mark = f"\x1e{os.urandom(12).hex()}"
        late = threading.Event()
        timer = threading.Timer(
            deadline.remaining if deadline else threading.TIMEOUT_MAX, self._expire, (late,)
        )
        timer.daemon = True
        if deadline:
            timer.start()
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # noqa: S101 - both are pipes, as asked for above
        assert stdout is not None  # noqa: S101
        _write(stdin, _wrap(script, mark))

        def read() -> Outcome:
            try:
                started, ended, output = _read(stdout, mark.encode(), on_line)
                code = self._process.wait()
                if ended is None:
                    self._stderr.seek(0)
                    said = self._stderr.read().decode("utf-8", "replace")
                    raise _EndedError(
                        code, said, started=started, late=deadline.limit if deadline and late.is_set() else 0
                    )
                return Outcome(ended, output)
            finally:
                timer.cancel()
                self.kill()

        return read


def _wrap(script: str, mark: str) -> bytes:
    """The script as a function, so that a shell that got only half of it runs nothing."""
    lines = (
        f"swarm_script() {{\n(\n:\n{script}\n)\n}}",
        "exec 2>&1",
        f"printf '%s\\n' {quote(f'{mark} begin')}",
        "swarm_script </dev/null",
        f"printf '\\n%s %s\\n' {quote(f'{mark} end')} \"$?\"",
        "exit 0\n",
    )
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def _write(pipe: IO[bytes], data: bytes) -> None:
    # If ssh has ended already, what it said on standard error tells why.
    with contextlib.suppress(BrokenPipeError):
        pipe.write(data)
    with contextlib.suppress(BrokenPipeError):
        pipe.close()


def _read(
    pipe: IO[bytes], mark: bytes, on_line: Callable[[str], None] | None
) -> tuple[bool, int | None, bytes]:
    """Return whether the begin was seen, the exit code if the end was seen, and the bytes between the two."""
    started, output, blank = False, bytearray(), False
    for line in pipe:
        if line.startswith(mark):
            word = line[len(mark) :].split()
            if word[0] == b"begin":
                started = True
            else:
                return (
                    started,
                    int(word[1]),
                    bytes(output[:-1]),
                )  # without the newline that stands before the mark
        elif started:
            output += line
            if on_line and blank:
                on_line("")
            blank = line == b"\n"  # it may be the one before the mark, so it waits for the next line
            if on_line and not blank:
                on_line(line.decode("utf-8", "replace").rstrip("\r\n"))
    return started, None, bytes(output)


def _control_dir() -> Path:
    """The folder for the sockets: short, and nobody else's."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = (
        runtime.startswith("/")
        and Path(runtime).is_dir()
        and len(runtime) + len("/swarm/") + _SOCKET_NAME <= _SOCKET_PATH
    )
    folder = Path(runtime) / "swarm" if usable else Path("/tmp") / f"swarm-{os.getuid()}"  # noqa: S108 - checked below
    folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or state.st_mode & 0o077:
        raise Unfit(
            f"{folder} belongs to somebody else, or others can enter it; SSH connections are not kept in such a folder",
            f"remove {folder}",
        )
    return folder
