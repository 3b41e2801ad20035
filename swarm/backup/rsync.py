"""Run rsync: its options and filters, its progress and counts, and the meaning of its exit codes.

Names are never read from rsync's output for a decision: it is counted, and shown.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from swarm.backup.remote import GARBLED, GARBLED_HINT, ways
from swarm.errors import CommandFailed, Refused, SwarmError, Unfit, Unreachable
from swarm.ssh.reasons import without_warnings
from swarm.ssh.session import surroundings
from swarm.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from swarm.console import Meter
    from swarm.locks import Lock
    from swarm.ssh.link import Link

__all__ = ["PARTIAL", "VANISHED", "Outcome", "Rsync", "exact", "explain"]

PARTIAL = 23  # some files could not be copied; all others were
VANISHED = 24  # files vanished in the guest while they were copied
_LINE = (10, 12, 30, 35, 255)  # the connection broke
_SHOWN = 20  # names of files that an outcome keeps
_MESSAGES = 1 << 14  # bytes of error output that are kept
_LONGEST = 1 << 16  # bytes of a line; a guest can send text that never ends one
_FULL = ("No space left on device", "Disk quota exceeded")
# Owners are not copied: the mirror belongs to the user who runs swarm, who must be able to read it, and so must rsync
# the next time. `-s` keeps names away from the guest's shell.
_OPTIONS = (
    *("-rlptHSs", "--modify-window=-1", "--no-devices", "--no-specials", "--no-human-readable"),
    *("--timeout=60", "--stats", "--info=nonreg0", "--out-format=@%i %l %n", "--delay-updates"),
    "--chmod=Du+rx,Fu+r",
)
_ITEM = re.compile(rb"@(.{11}) (\d+) (.*)", re.DOTALL)
_STAT = re.compile(
    rb"(Number of deleted files|Number of regular files transferred|Total transferred file size): (\d+)(.*)"
)
_ROOT_MODE = (b".d...p.....", b"./")  # the mirror's own mode is 0700, whatever the guest's directory has


@dataclass
class Outcome:
    """What one run of rsync did, or would do."""

    code: int = 0
    items: int = 0  # changes of any kind
    deleted: int = 0  # files and links, not directories
    removed: int = 0  # what --max-delete counts: directories too
    transferred: int = 0  # files
    size: int = 0  # bytes of the files to transfer
    shown: list[str] = field(default_factory=list)
    messages: str = ""

    def take(self, line: bytes) -> int:
        """Take one line of output. Return the bytes of the file that it reports."""
        if match := _ITEM.fullmatch(line):
            item, size, name = match.groups()
            if (item, name) == _ROOT_MODE:
                return 0
            self.items += 1
            if len(self.shown) < _SHOWN:
                self.shown.append(_described(item, name))
            return int(size) if item.startswith(b">f") else 0
        if match := _STAT.match(line):
            self._count(match[1], int(match[2]), match[3])
        return 0

    def _count(self, what: bytes, number: int, rest: bytes) -> None:
        if what.startswith(b"Number of deleted"):
            folders = re.search(rb"dir: (\d+)", rest)
            self.removed, self.deleted = number, number - (int(folders[1]) if folders else 0)
        elif what.startswith(b"Number"):
            self.transferred = number
        else:
            self.size = number


def _described(item: bytes, name: bytes) -> str:
    verb = "update"
    if item.startswith(b"*deleting"):
        verb = "delete"
    elif b"+++" in item:
        verb = "add"
    return f"{verb} {visible(name.decode('utf-8', 'replace'), lines=False)}"


def exact(path: str) -> str:
    """Return the pattern that matches only `path`, relative to the transfer's root."""
    if re.search(r"[*?\[]", path):  # without these, rsync takes a backslash literally
        path = re.sub(r"([*?\[\\])", r"\\\1", path)
    return f"/{path}"


@dataclass(frozen=True)
class Rsync:
    """Copies from one guest, over the kept connection. rsync inherits the `lock`, so it holds it until it has ended."""

    link: Link
    lock: Lock
    bwlimit: int | None = None

    def run(
        self,
        source: str,
        target: Path,
        *options: str,
        rules: Sequence[str] = (),
        meter: Meter | None = None,
        total: int = 0,
    ) -> Outcome:
        """Copy what the directory `source` of the guest contains into the directory `target`.

        `rules` are filters of rsync. Raise Unfit if rsync is missing; every other failure is in the outcome.
        """
        with self._files(rules) as (config, filters):
            ssh = ("ssh", "-F", config, "-o", "ControlMaster=no")
            limit = (f"--bwlimit={self.bwlimit}",) if self.bwlimit else ()
            places = (f"{self.link.alias}:{source.rstrip('/')}/", f"{target}/")
            rest = ("--from0", f"--filter=merge {filters}", "--", *places)
            outcome = Outcome()
            for way in ways(ssh, root=self.link.root):
                command = ["rsync", *_OPTIONS, *limit, *options, *way, *rest]
                outcome = _run(command, self.lock.descriptor, _progress(meter, total))
                if outcome.code != GARBLED:
                    break
            return outcome

    @contextmanager
    def _files(self, rules: Sequence[str]) -> Iterator[tuple[Path, Path]]:
        with tempfile.TemporaryDirectory(prefix="swarm-") as folder:
            config, filters = Path(folder) / "config", Path(folder) / "filters"
            config.write_text(self.link.own_config(), encoding="utf-8")
            filters.write_bytes(b"".join(os.fsencode(rule) + b"\0" for rule in rules))
            yield config, filters


def _progress(meter: Meter | None, total: int) -> Callable[[int], None]:
    done = 0

    def advance(size: int) -> None:
        nonlocal done
        done += size
        if meter and size and total:
            meter.advance(min(done, total), total)

    return advance


def _run(command: list[str], lock: int, advance: Callable[[int], None]) -> Outcome:
    """Run rsync to its end. An exception, such as that of Ctrl-C, ends rsync too."""
    pipe, environment = subprocess.PIPE, {**surroundings(), "LC_ALL": "C"}
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=environment, pass_fds=(lock,)
        )
    except FileNotFoundError:
        raise Unfit("the program rsync is missing", "apt-get install rsync") from None
    outcome, messages = Outcome(), bytearray()
    assert process.stdout is not None  # noqa: S101 - both are pipes
    assert process.stderr is not None  # noqa: S101
    reader = threading.Thread(target=_keep, args=(process.stderr, messages))
    with process:
        reader.start()
        try:
            while line := process.stdout.readline(_LONGEST):
                advance(outcome.take(line.rstrip(b"\n")))
            outcome.code = process.wait()
        except BaseException:
            _stop(process)
            raise
        finally:
            reader.join()
    outcome.messages = messages.decode("utf-8", "replace")
    return outcome


def _keep(stream: IO[bytes], kept: bytearray) -> None:
    """Read error output, and keep the beginning: the first error is the one that counts."""
    while data := os.read(stream.fileno(), _MESSAGES):
        kept.extend(data[: _MESSAGES - len(kept)])


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()


def explain(host: str, outcome: Outcome, target: Path) -> SwarmError:
    """Return the error for a run of rsync that did not succeed."""
    code, reason = outcome.code, _reason(outcome.messages)
    if any(text in outcome.messages for text in _FULL) and "[sender]" not in reason:
        return Unfit(f"{target}: the disk is full", "free some space there; the next backup continues")
    if "rsync: not found" in outcome.messages or "rsync: command not found" in outcome.messages:
        return CommandFailed(
            f"{host}: rsync is missing in the guest", "install it there: apt-get install rsync"
        )
    kind, message, hint = _REASONS[_meaning(code)]
    return kind(f"{host}: {message.format(reason=reason, code=code)}", hint)


def _meaning(code: int) -> int | str:
    if code in _LINE:
        return "line"
    if code < 0:
        return "killed"
    return code if code in _REASONS else "other"


# rsync's exit code, or a word: the class of error, the message after the host's name, and the hint.
_REASONS: dict[int | str, tuple[type[SwarmError], str, str | None]] = {
    PARTIAL: (
        CommandFailed,
        "not every file could be copied: {reason}",
        "repair or exclude it (backup.exclude in the host file); everything else is in the mirror",
    ),
    25: (
        Refused,
        "more files would be deleted from the mirror than the dry run has shown",
        "run the backup again",
    ),
    GARBLED: (CommandFailed, "rsync does not understand the guest: {reason}", GARBLED_HINT),
    11: (CommandFailed, "rsync could not read or write a file: {reason}", None),
    20: (CommandFailed, "rsync was interrupted", "run the backup again; it continues"),
    "killed": (CommandFailed, "rsync was killed", "run the backup again; it continues"),
    "line": (
        Unreachable,
        "the connection broke while files were copied: {reason}",
        "run the backup again; it continues where it stopped",
    ),
    "other": (CommandFailed, "rsync failed with exit code {code}: {reason}", None),
}


def _reason(messages: str) -> str:
    """Return the first error of rsync or ssh as one line."""
    lines = [line for line in without_warnings(messages).splitlines() if line.strip()]
    found = next(
        (line for line in lines if line.startswith("rsync: ")), lines[0] if lines else "no reason given"
    )
    return visible(found.removeprefix("rsync: "), lines=False)[:4600]
