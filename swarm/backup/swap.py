"""What a restore does in the guest: templates/guest/restore*.py, the transfer into staging, and the gateway's unit."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import tempfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from swarm.backup.remote import GARBLED, GARBLED_HINT, ways
from swarm.errors import CommandFailed, Unfit, Unreachable, VerificationFailed
from swarm.paths import ROOT
from swarm.ssh.session import Limits, surroundings
from swarm.text import quote, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from swarm.backup.manifest import Entry
    from swarm.locks import Lock
    from swarm.ssh.guest import Guest

__all__ = ["FIELDS", "Gateway", "Program", "Service", "send"]

FIELDS = ("path", "kind", "mode", "mtime_ns", "owner", "group", "size", "sha256", "target")
_UNIT = "openclaw-gateway.service"
_HOURS = 6 * 3600.0  # seconds for one action: hashing a large tree under emulation takes its time
_OUTPUT = 256 << 20  # bytes: a line of about 250 for each of a million files
_STOP = 300.0  # seconds; a stop took 62 with work in flight, and systemd allows 90
# Without the window, a file of the same size that was written in the same second would count as the same.
_OPTIONS = ("-rlptHS", "--secluded-args", "--modify-window=-1", "--timeout=60", "--delete")
_TAIL = 1 << 14  # bytes of rsync's messages that are read
_PARTIAL = {23, 24}  # rsync: some files were not transferred; the check in the guest names them
_LINE_FAILED = {10, 12, 30, 35, 255}
_FILE_ERROR = 11  # rsync: an error of file I/O, such as a full disk
_NO_PROGRAM = 127
_NO_RSYNC = re.compile(r"rsync: (command )?not found")


class Service(Protocol):
    """What has to rest while the files are swapped."""

    def stop(self) -> bool:
        """Stop it. Return False if there is no such service."""

    def start(self) -> None:
        """Start it."""


@dataclass(frozen=True)
class Gateway:
    """The gateway's user unit in the guest."""

    guest: Guest
    host: str
    user: str

    def stop(self) -> bool:
        """Stop the unit. Return False if it is not installed, or its manager is not running. Raise CommandFailed."""
        script = (  # without a bus, the account has no manager, so nothing of it runs
            f'[ -S "/run/user/$(id -u {quote(self.user)})/bus" ] || {{ echo no; exit; }}\n'
            f"state=$({self._systemctl('show', '-P', 'LoadState', _UNIT)}) || exit 1\n"
            'if [ "$state" != loaded ]; then echo no; exit; fi\n'
            f"{self._systemctl('stop', _UNIT)} && echo yes"
        )
        return self.guest.check(script, "stopping the gateway", timeout=_STOP).strip() != "no"

    def start(self) -> None:
        """Start the unit. Raise CommandFailed."""
        reset = f"{self._systemctl('reset-failed', _UNIT)} 2>/dev/null || :"
        self.guest.check(f"{reset}\n{self._systemctl('start', _UNIT)}", "starting the gateway", timeout=_STOP)

    def _systemctl(self, *words: str) -> str:
        user, runtime = quote(self.user), f'"/run/user/$(id -u {quote(self.user)})"'
        bus = f"DBUS_SESSION_BUS_ADDRESS=unix:path={runtime}/bus"
        return f"runuser -u {user} -- env XDG_RUNTIME_DIR={runtime} {bus} systemctl --user {quote(*words)}"


@dataclass(frozen=True)
class Program:
    """The program in the guest, and what all of its orders have in common."""

    guest: Guest
    host: str
    common: Mapping[str, Any]
    entries: tuple[Entry, ...]

    def ask(self, action: str, **values: Any) -> list[Any]:
        """Carry out one action, and return the lines of its answer. Raise VerificationFailed, Unreachable."""
        rows = [[getattr(entry, name) for name in FIELDS] for entry in self.entries]
        order = {"action": action, "fields": FIELDS, "entries": rows, **self.common, **values}
        answers: list[Any] = []
        messages: list[str] = []

        def take(line: bytes) -> None:
            if not line.startswith((b"{", b"[")):
                messages[:] = [*messages, line.decode("utf-8", "replace").strip()][-20:]
                return
            try:
                answers.append(json.loads(line))
            except (ValueError, RecursionError):
                raise _malformed(self.host) from None

        limits = Limits(total=_HOURS, output=_OUTPUT)
        done = self.guest.script(_script(order), take, limits).join()
        reason = next((line for line in reversed(messages) if line), "")
        return self._checked(answers, done.exited, visible(reason, lines=False)[:300])

    def _checked(self, answers: list[Any], code: int | None, reason: str) -> list[Any]:
        last = answers.pop() if answers else None
        if isinstance(last, dict) and "problem" in last:
            error = Unfit if last.get("unfit") else VerificationFailed
            raise error(f"{self.host}: {visible(str(last['problem'])[:1000], lines=False)}")
        if code == _NO_PROGRAM:
            raise Unfit(
                f"{self.host}: python3 is missing in the guest", f"./inv customize --host {self.host}"
            )
        if code or last != {"end": True}:
            raise CommandFailed(
                f"{self.host}: the restore program failed in the guest with exit code {code}: {reason or 'no reason'}"
            )
        return answers


def _malformed(host: str) -> VerificationFailed:
    return VerificationFailed(f"{host}: received a malformed answer from the guest")


# Runs the modules that arrive with the order, so that nothing is written to the guest's disk.
_LOADER = """
import base64, json, sys, types, zlib
data = json.loads(zlib.decompress(base64.b64decode(sys.stdin.buffer.read())))
ORDER = data["order"]
for name, text in data["modules"]:
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name + ".py", "exec"), module.__dict__)
"""


def _script(order: Mapping[str, Any]) -> str:
    folder = ROOT / "templates" / "guest"
    modules = [
        (name, (folder / f"{name}.py").read_text(encoding="utf-8"))
        for name in ("patterns", "restore_files", "restore_swap", "restore")
    ]
    text = json.dumps({"order": order, "modules": modules}).encode("ascii")
    data = base64.encodebytes(zlib.compress(text)).decode("ascii")
    return f"python3 -I -X utf8 -c {quote(_LOADER)} <<'END_OF_ORDER'\n{data}END_OF_ORDER"


def occupied(tree: Path, entries: Iterable[Entry]) -> int:
    """Return the bytes that the files of a tree will take in the guest: holes take none, hard links share theirs."""
    sizes: dict[object, int] = {}
    for entry in entries:
        if entry.kind == "file":
            try:
                info = (tree / entry.path).lstat()
            except OSError:  # the check in the guest names what is missing
                sizes[entry.path] = entry.size
            else:
                sizes[info.st_dev, info.st_ino] = min(entry.size, info.st_blocks * 512)
    return sum(sizes.values())


def send(
    guest: Guest,
    host: str,
    tree: Path,
    staging: str,
    paths: Sequence[str] | None = None,
    *,
    lock: Lock | None = None,
) -> str:
    """Copy a tree, or only `paths` of it, into the guest's staging directory by rsync. Return rsync's complaints.

    rsync inherits the `lock`, so it holds it until it has ended. Raise Unreachable if the connection fails, Unfit if
    the guest's disk is full or has no rsync, or CommandFailed.
    """
    ssh = ["ssh", "-F", str(guest.link.config), *guest.options()]
    options = [*_OPTIONS, "--exclude=/.swarm-archive"]
    listed = None
    if paths is not None:
        listed = b"".join(b"./" + path.encode("utf-8", "surrogateescape") + b"\0" for path in paths)
        options += ["--from0", "--files-from=-"]
    code, text = 0, ""
    for way in ways(ssh, root=True):  # root in the guest, also if the login is another user
        command = ["rsync", *options, *way, "--", f"{tree.absolute()}/", f"{guest.alias}:{staging}/"]
        code, text = _run(command, listed, lock)
        if code == _FILE_ERROR and not text:  # rsync sometimes loses what its other side said before it ended
            code, text = _run(command, listed, lock)
        if code != GARBLED:
            break
    return _judged(host, code, text)


def _run(command: Sequence[str], listed: bytes | None, lock: Lock | None) -> tuple[int, str]:
    """Run rsync with `listed` on its standard input. Return its exit code and the end of its messages."""
    with tempfile.TemporaryFile() as messages:
        try:
            done = subprocess.run(
                command,
                **({"stdin": subprocess.DEVNULL} if listed is None else {"input": listed}),
                env={**surroundings(), "LC_ALL": "C"},
                stdout=subprocess.DEVNULL,
                stderr=messages,
                pass_fds=(lock.descriptor,) if lock else (),
                check=False,
            )
        except FileNotFoundError:
            raise Unfit("the program rsync is missing", "apt-get install rsync") from None
        messages.seek(-min(_TAIL, messages.tell()), 2)
        return done.returncode, visible(messages.read().decode("utf-8", "replace").strip())


def _judged(host: str, code: int, text: str) -> str:
    lines = [line for line in text.splitlines() if line and not line.startswith("rsync error:")]
    reason = next(
        (line for line in lines if line.startswith("rsync:")), lines[-1] if lines else "no reason given"
    )
    if "No space left on device" in text:
        raise Unfit(f"{host}: the guest's disk is full: {reason}", "free some space there, then run it again")
    if code == _NO_PROGRAM or _NO_RSYNC.search(text):
        raise Unfit(f"{host}: rsync is missing in the guest", f"./inv install --host {host}")
    if code in _LINE_FAILED:
        raise Unreachable(
            f"{host}: the transfer broke off: {reason}", "earlier changes are kept; run it again"
        )
    if code == GARBLED:
        raise CommandFailed(f"{host}: rsync does not understand the guest", GARBLED_HINT)
    if code and code not in _PARTIAL:
        raise CommandFailed(f"{host}: rsync failed with exit code {code}: {reason}")
    return "\n".join(lines) if code else ""
