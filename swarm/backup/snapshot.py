"""Ask the guest about its state directory, and let it take snapshots of its databases: one program, one conversation.

Everything that the guest answers is data. It is checked here before anything relies on it.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from swarm.backup.owners import Owners
from swarm.errors import CommandFailed, Refused, SwarmError
from swarm.paths import ROOT
from swarm.ssh.session import Limits
from swarm.text import amount, quote, visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from swarm.ssh.conversation import Running
    from swarm.ssh.link import Link

__all__ = ["Conversation", "Database", "Source", "Survey", "clean_up", "converse"]

_LIMITS = Limits(total=4 * 3600.0, silence=300.0, output=48 << 20)
_ENTRIES = 150_000  # databases, tables and files of other owners; one takes up to 400 bytes here
_NOISE = 1 << 20  # bytes of lines that are no answers, like Python's warnings
_PARTS = ("patterns.py", "backup_tree.py", "backup.py")
_PROGRAM = tuple(ROOT / "templates" / "guest" / name for name in _PARTS)
_SCRIPT = """command -v python3 >/dev/null || {{ echo '{{"error": "python"}}'; exit 0; }}
python3 -I -S - <<'SWARM_PROGRAM'
REQUEST = {request!r}
{program}
SWARM_PROGRAM
"""
_SIGNATURE = 5  # size, modification time, inode, and size and modification time of the -wal file


@dataclass(frozen=True)
class Source:
    """The state directory `state_dir` of the account `user` in one guest. `hostname` is the name it must have."""

    link: Link
    host: str
    hostname: str | None
    user: str
    state_dir: str


@dataclass(frozen=True)
class Database:
    """One SQLite database of the guest.

    `tables` maps its tables to their rows; None means unchanged since the known signature, or not looked at.
    """

    signature: tuple[int, ...]
    tables: Mapping[str, int] | None = None
    same: bool = False
    copied: bool = False
    problem: str = ""


@dataclass
class Survey:
    """What the guest says about its state directory."""

    staging: str = ""  # where the snapshots are
    owners: Owners = field(default_factory=lambda: Owners("", ""))
    top: dict[str, int] = field(default_factory=dict)  # files in each top-level entry; -1: excluded
    leaves: frozenset[str] = frozenset()  # top-level entries that are no directories
    files: int = 0
    sparse: int = 0  # bytes that sparse files do not occupy
    mode: int = 0o700
    plain: tuple[str, ...] = ()  # files that are named like a database, and are none
    unreadable: tuple[str, ...] = ()
    databases: dict[str, Database] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def fresh(self) -> dict[str, Database]:
        """The databases with a new snapshot."""
        return {path: each for path, each in self.databases.items() if each.copied}


class Conversation:
    """A running program in the guest."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._survey, self._others = Survey(), dict[str, tuple[str, str]]()
        self._modes: dict[str, int] = {}
        self._error: SwarmError | None = None
        self._begun, self._ended, self._noise = threading.Event(), False, ""
        self._entries, self._noises = 0, 0
        self.running: Running

    def wait(self) -> bool:
        """Wait until the guest is connected, so that others share the connection. Return False if the program ended."""
        while not self._source.link.is_connected and not self._begun.wait(0.01):
            if self.running.finished:
                return self._begun.is_set()
        return True

    def result(self) -> Survey:
        """Wait for the end and return what the guest said. Raise a SwarmError if it could not do its work."""
        done = self.running.join()
        if self._error:
            raise self._error
        if not self._ended:
            raise CommandFailed(
                f"{self._source.host}: the backup program in the guest failed with exit code {done.exited}",
                self._noise or None,
            )
        owners = self._survey.owners
        self._survey.owners = Owners(owners.user, owners.group, self._others, self._modes)
        return self._survey

    def give_up(self) -> None:
        """End the conversation."""
        self.running.kill()

    def take(self, line: bytes) -> None:
        """Take one line of the program's output. Raise CommandFailed for one that the program cannot have printed."""
        if not line.startswith(b"{"):
            self._noise = visible(line[:1200].decode("utf-8", "replace"), lines=False)[:300]
            self._noises += len(line) + 1
            if self._noises > _NOISE:
                raise self._malformed()
            return
        try:
            self._heed(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise self._malformed() from None
        if self._entries > _ENTRIES:
            raise CommandFailed(
                f"{self._source.host}: the guest names more than {_ENTRIES:,} databases and files of other owners",
                "exclude what does not belong to OpenClaw's account: backup.exclude in the host file",
            )

    def _malformed(self) -> CommandFailed:
        return CommandFailed(
            f"{self._source.host}: received a malformed answer from the guest's backup program"
        )

    def _heed(self, values: dict[str, Any]) -> None:
        survey = self._survey
        if "error" in values:
            self._error = self._error or _error(self._source, values)
        elif "database" in values:
            found = survey.databases[_path(values["database"])] = _database(values)
            self._entries += 1 + len(found.tables or ())
        elif "others" in values:
            self._entries += len(values["others"])
            self._others |= {
                _path(path): (_text(user), _text(group)) for path, user, group in values["others"]
            }
        elif "closed" in values:
            self._entries += len(values["closed"])
            self._modes |= {_path(path): _number(mode) & 0o7777 for path, mode in values["closed"]}
        elif "begin" in values:
            survey.staging = _text(values["staging"], 4096)
            self._begun.set()
        elif "top" in values:
            survey.top = {_path(name): _number(count, -1) for name, count in values["top"].items()}
            survey.leaves = frozenset(map(_path, values["leaves"]))
            survey.files, survey.sparse = _number(values["files"]), _number(values["sparse"])
            survey.plain, survey.unreadable = (
                tuple(map(_path, values[key])) for key in ("plain", "unreadable")
            )
            survey.mode = _number(values["mode"])
        elif "user" in values:
            survey.owners = Owners(_text(values["user"]), _text(values["group"]))
        elif "end" in values:
            survey.versions = {_text(name): _text(each) for name, each in values["versions"].items()}
            self._ended = True


def converse(
    source: Source, known: Mapping[str, Sequence[int]], exclude: Sequence[str], *, snapshot: bool
) -> Conversation:
    """Start the program in the guest. It takes a snapshot of each database whose signature is not the `known` one.

    `known` maps every database of the last time to its signature, which is empty if a snapshot must be taken.
    """
    request = json.dumps(
        {
            "hostname": source.hostname,
            "user": source.user,
            "state_dir": source.state_dir,
            "exclude": list(exclude),
            "known": {path: list(each) for path, each in known.items()},
            "snapshot": snapshot,
        }
    )
    conversation = Conversation(source)
    program = "\n".join(path.read_text(encoding="utf-8") for path in _PROGRAM)
    script = _SCRIPT.format(request=request, program=program)
    conversation.running = source.link.script(script, conversation.take, _LIMITS)
    return conversation


def clean_up(source: Source, staging: str) -> None:
    """Remove the snapshots from the guest, with the rights of their account. Raise a SwarmError."""
    remove = quote("rm", "-rf", "--", staging)
    as_user = f"runuser -u {quote(source.user)} -- {remove}"
    from swarm.ssh.guest import Guest

    guest = Guest(source.link.config, source.link.alias, link=source.link)
    guest.check(f'if [ "$(id -u)" = 0 ]; then {as_user}; else {remove}; fi', "removing the snapshots")


def _database(values: dict[str, Any]) -> Database:
    signature = tuple(_number(each, -1) for each in values["signature"])
    if len(signature) != _SIGNATURE:
        raise ValueError
    tables = values.get("tables")
    return Database(
        signature,
        None if tables is None else {_text(name, 4096): _number(rows) for name, rows in tables.items()},
        same=values.get("same") is True,
        copied=values.get("copied") is True,
        problem=visible(_text(values.get("problem", ""), 400), lines=False),
    )


def _text(value: object, limit: int = 255) -> str:
    if not isinstance(value, str) or len(value) > limit or "\0" in value:
        raise TypeError
    os.fsencode(value)  # raises ValueError for half a surrogate pair, which no name of a file can hold
    return value


def _path(value: object) -> str:
    """Check a path relative to the state directory."""
    path = _text(value, 1 << 16)  # the guest can make paths longer than it can open; those are only shown
    if path and any(part in {"", ".", ".."} for part in path.split("/")):
        raise ValueError
    return path


def _number(value: object, least: int = 0) -> int:
    if type(value) is not int or not least <= value < 1 << 63:
        raise TypeError
    return value


# Code: the class of error, the message after the host's name, and the hint.
_ERRORS: dict[str, tuple[type[SwarmError], str, str | None]] = {
    "python": (CommandFailed, "python3 is missing in the guest", "install it there: apt-get install python3"),
    "rsync": (CommandFailed, "rsync is missing in the guest", "install it there: apt-get install rsync"),
    "hostname": (
        Refused,
        "the guest's hostname is {value}, expected {hostname}; nothing was copied",
        "is the address in the host file that of another machine?",
    ),
    "account": (CommandFailed, "the guest has no account {user}", "./inv install --host {host} creates it"),
    "state": (
        Refused,
        "the guest has no state directory {state_dir}; nothing was copied",
        "is OpenClaw installed? `./inv restore --host {host}` puts the mirror back",
    ),
    "missing": (
        Refused,
        "{state_dir}/openclaw.json is missing in the guest; nothing was copied",
        "if the guest is new, `./inv restore --host {host}` puts the mirror back",
    ),
    "linked": (
        Refused,
        "{state_dir}/openclaw.json is a link, and what a link points to is not backed up; nothing was copied",
        "put the file itself there in the guest",
    ),
    "config": (
        Refused,
        "{state_dir}/openclaw.json can't be read: {value}; nothing was copied",
        "repair it in the guest: openclaw doctor",
    ),
    "busy": (
        Refused,
        "another backup is still running in the guest",
        "wait a minute, then run the backup again",
    ),
    "space": (
        CommandFailed,
        "the guest's disk is full: {value}{space}",
        "free some space there; the databases are copied to that directory first",
    ),
    "system": (CommandFailed, "the backup program in the guest failed: {value}", None),
}


def _error(source: Source, values: dict[str, Any]) -> SwarmError:
    kind, message, hint = _ERRORS[values["error"]]
    facts = {
        "value": visible(_text(values.get("value", ""), 500), lines=False),
        "space": _space(_number(values.get("needed", 0)), _number(values.get("free", 0))),
        "host": source.host,
        "hostname": source.hostname,
        "user": source.user,
        "state_dir": source.state_dir,
    }
    return kind(f"{source.host}: {message.format(**facts)}", hint and hint.format(**facts))


def _space(needed: int, free: int) -> str:
    return f" needs {amount(needed)}, {amount(free)} are free" if needed else ""
