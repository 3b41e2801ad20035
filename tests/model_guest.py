"""Two stand-ins for a guest: a model that interprets the engine's scripts, and one that runs them with the local sh."""

from __future__ import annotations

import re
import subprocess
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from swarm.ssh.session import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Ended", "ModelGuest", "Running", "ShellGuest", "lines_of", "shell"]

_MARK = re.compile("\x1e[0-9a-f]{24}")
_STEP = re.compile(r"^swarm_step_\d+\(\) \{\n(.*?)\n\}$", re.MULTILINE | re.DOTALL)
_PROBE = re.compile(
    r"^printf '%s fact %s\\n' '[^']+' \d+\n(.*?)\nprintf '\\n%s done", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Ended:
    """The end of a script."""

    exited: int


@dataclass(frozen=True)
class Running:
    """A script that does its work when it is joined."""

    work: Callable[[], int]

    def join(self) -> Ended:
        """Do the work."""
        return Ended(self.work())


def shell(script: str) -> bytes:
    """What a real sh prints for a script."""
    return subprocess.run(
        ["sh"], input=script.encode("utf-8", "surrogateescape"), capture_output=True, check=True
    ).stdout


def lines_of(output: bytes) -> list[bytes]:
    """The complete lines of some output, as a guest hands them over."""
    return output.split(b"\n")[:-1]


@dataclass
class ModelGuest:
    """A guest whose probes are 'get NAME'. The lines of its steps: 'set NAME FACT', 'say TEXT', 'fail CODE', 'lose'."""

    state: dict[str, str]
    alias: str = "zap"
    sent: list[str] = field(default_factory=list)
    limits: list[Limits] = field(default_factory=list)
    before: Callable[[], None] = lambda: None
    """Called before the steps of a script."""
    lost: Exception = field(default_factory=Exception)
    """Raised by 'lose'."""

    def script(self, script: str, take: Callable[[bytes], None], limits: Limits = Limits()) -> Running:  # noqa: B008
        """Take a script."""
        self.sent.append(script)
        self.limits.append(limits)
        return Running(lambda: self._play(script, take))

    @property
    def asked(self) -> list[list[str]]:
        """The things that each script asked for, by name."""
        return [[probe.removeprefix("get ") for probe in _PROBE.findall(script)] for script in self.sent]

    def _play(self, script: str, take: Callable[[bytes], None]) -> int:
        found = _MARK.search(script)
        assert found
        mark = found[0]
        steps = _STEP.findall(script)
        if steps:
            self.before()
        for index, text in enumerate(steps):
            take(f"{mark} begin {index}".encode())
            code = self._step(text, take)
            take(f"{mark} end {index} {code}".encode())
            if code:
                return 74
        for index, probe in enumerate(_PROBE.findall(script)):
            take(f"{mark} fact {index}".encode())
            for line in self.state[probe.removeprefix("get ")].split("\n"):
                take(line.encode("utf-8", "surrogateescape"))
            take(f"{mark} done 0".encode())
        return 0

    def _step(self, text: str, take: Callable[[bytes], None]) -> int:
        for line in text.splitlines():
            verb, _, rest = line.partition(" ")
            if verb == "set":
                name, _, fact = rest.partition(" ")
                self.state[name] = fact
            elif verb == "say":
                take(rest.encode("utf-8", "surrogateescape"))
            elif verb == "fail":
                return int(rest)
            elif verb == "lose":
                raise self.lost
        return 0


@dataclass
class ShellGuest:
    """A guest that is this computer: scripts run with sh, each occurrence of `old` in them replaced by `new`."""

    replaced: dict[str, str]
    alias: str = "zap"
    lines: list[bytes] = field(default_factory=list)

    def script(self, script: str, take: Callable[[bytes], None], limits: Limits = Limits()) -> Running:  # noqa: B008
        """Start a script; a thread hands over its lines."""
        for old, new in self.replaced.items():
            script = script.replace(old, new)
        process = subprocess.Popen(
            ["sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert process.stdin
        assert process.stdout
        process.stdin.write(
            f"run() {{\n(\n{script}\n)\n}}\nrun </dev/null\n".encode("utf-8", "surrogateescape")
        )
        process.stdin.close()

        def read() -> None:
            assert process.stdout
            for line in process.stdout:
                self.lines.append(line.removesuffix(b"\n"))
                take(line.removesuffix(b"\n"))

        thread = threading.Thread(target=read)
        thread.start()

        def end() -> int:
            thread.join(limits.total)
            if process.stdout:
                process.stdout.close()
            return process.wait(limits.total)

        return Running(end)
