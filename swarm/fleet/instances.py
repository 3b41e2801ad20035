"""The list of OpenClaw instances that swarm shares with other programs: ~/.claude/state/openclaw-instances.json.

Four shapes are understood, and each is kept: {"instances": {NAME: {…}}}, {"instances": [{"name": NAME, …}]},
{NAME: {…}} and [{"name": NAME, …}]. A new file has the first. Entries of others, unknown fields and the order are kept.
"""

from __future__ import annotations

import json
import math
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from swarm.deadline import Deadline
from swarm.errors import SwarmError, Unfit
from swarm.files import rewrite, write_atomically
from swarm.locks import hold
from swarm.paths import instances_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from swarm.inventory import Host

__all__ = ["Instances", "drop", "entry", "missing", "put", "read"]

_LIMIT = 4 << 20  # bytes; an entry has about 100
_PATIENCE = 30.0  # seconds to wait for another process that changes the file
_KEY = "instances"


def entry(host: Host) -> dict[str, Any]:
    """Return what swarm writes about a host. It holds no secret."""
    return {
        "host": host.name,
        "ip": host.address,
        "user": host.openclaw.user,
        "port": host.openclaw.port,
    }


class Instances:
    """The content of the file. `entries` has every entry by its name."""

    def __init__(self, path: Path, data: Any = None) -> None:  # noqa: ANN401 - any JSON value
        self.path = path
        self.exists = data is not None
        self._data: Any = {_KEY: {}} if data in (None, {}) else data
        self._held: Any = self._data
        if isinstance(self._data, dict) and _KEY in self._data and not _is_host(self._data[_KEY]):
            self._held = self._data[_KEY]
        self.entries = self._entries()

    def _entries(self) -> dict[str, dict[str, Any]]:
        """Return the entries by name. Raise Unfit if the file has another shape."""
        if isinstance(self._held, dict):
            pairs = list(self._held.items())
        elif isinstance(self._held, list):
            pairs = [(each.get("name") if isinstance(each, dict) else None, each) for each in self._held]
        else:
            raise _damaged(self.path, "expected an object or a list of instances")
        if not all(isinstance(name, str) and isinstance(each, dict) for name, each in pairs):
            raise _damaged(self.path, "expected an object with a name for each instance")
        if len(dict(pairs)) < len(pairs):
            raise _damaged(self.path, "two instances have the same name")
        return dict(pairs)

    def differs(self, name: str, wanted: Mapping[str, Any]) -> bool:
        """Return True if the entry `name` is missing or has other values than `wanted`."""
        there = self.entries.get(name)
        return there is None or any(there.get(key) != value for key, value in wanted.items())

    def put(self, name: str, wanted: Mapping[str, Any]) -> None:
        """Add the entry `name`, or set these fields of it."""
        there = self.entries.get(name)
        if there is not None:
            there.update(wanted)
            return
        if isinstance(self._held, list):
            self._held.append({"name": name, **wanted})
        else:
            self._held[name] = dict(wanted)
        self.entries = self._entries()

    def drop(self, name: str) -> None:
        """Remove the entry `name`."""
        if isinstance(self._held, list):
            self._held[:] = [each for each in self._held if each["name"] != name]
        else:
            del self._held[name]
        self.entries = self._entries()

    def save(self) -> None:
        """Write the file. A new one is private, and so are the directories that are made for it.

        What root makes belongs to the owner of the directory around it, as after `sudo`.
        """
        text = json.dumps(self._data, indent=2, ensure_ascii=not _encodable(self._data)) + "\n"
        if self.exists:
            rewrite(self.path, text)
        else:
            target = Path(os.path.realpath(self.path))  # it may be a link to nothing yet
            write_atomically(target, text, mode=0o600, owner=_owner(target.parent))


def read() -> Instances:
    """Return the file's content. Raise Unfit if it is damaged or has another shape."""
    path = instances_file()
    try:
        raw = _content(path)
    except FileNotFoundError:
        return Instances(path)
    except OSError as error:
        raise _damaged(path, error.strerror or "it can't be read") from None
    if len(raw) > _LIMIT:
        raise _damaged(path, f"it exceeds {_LIMIT >> 20} MiB")
    try:
        data = json.loads(raw, object_pairs_hook=_once, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError | _Twice) else "not valid JSON"
        raise _damaged(path, reason) from None
    if data is None:
        raise _damaged(path, "expected an object or a list of instances")
    return Instances(path, data)


def _content(path: Path) -> bytes:
    """Return the file's bytes, and one more than the limit if there are more. Raise Unfit, OSError."""
    # Non-blocking, so that a pipe in the file's place is an error instead of a wait.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _damaged(path, "expected a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(_LIMIT + 1)
    finally:
        os.close(descriptor)


def missing(host: Host) -> bool:
    """Return True if the file has no entry for the host, or other values in it."""
    return read().differs(host.name, entry(host))


def put(host: Host) -> bool:
    """Add the host's entry or correct it. Return True if the file was changed."""
    with _locked():
        found = read()
        if not found.differs(host.name, entry(host)):
            return False
        found.put(host.name, entry(host))
        found.save()
        return True


def drop(name: str) -> bool:
    """Remove the entry `name`. Return True if there was one."""
    if name not in read().entries:
        return False
    with _locked():
        found = read()
        if name not in found.entries:
            return False
        found.drop(name)
        found.save()
        return True


@contextmanager
def _locked() -> Iterator[None]:
    path = instances_file()
    path = path.with_name(f".{path.name}.lock")
    for parent in reversed(path.parents):
        if not parent.exists():
            parent.mkdir(mode=0o700, exist_ok=True)
            _hand_over(parent, os.O_DIRECTORY)
    with suppress(FileExistsError):
        _hand_over(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        with hold(path, deadline=Deadline(_PATIENCE)):
            yield
    except TimeoutError as error:
        raise SwarmError(str(error), "run the command again once it has ended") from None


def _hand_over(path: Path, flags: int) -> None:
    """Open or create `path`, and give what root has made to the owner of the folder, who needs it too."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with suppress(PermissionError):
            os.fchown(descriptor, *_owner(path.parent))
    finally:
        os.close(descriptor)


def _owner(folder: Path) -> tuple[int, int]:
    state = folder.stat()
    return state.st_uid, state.st_gid


class _Twice(ValueError):
    """A key is given twice: writing the file would lose one of them."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise _Twice("a key is given twice")
    return made


def _refuse(_: str) -> NoReturn:
    raise ValueError


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError
    return number


def _is_host(value: object) -> bool:
    """Whether this is swarm's entry of a host called `instances`, in a file of the shape {NAME: {…}}."""
    return isinstance(value, dict) and value.get("host") == _KEY


def _encodable(data: object) -> bool:
    """Whether UTF-8 can hold every text. JSON allows half a surrogate pair as an escape, and UTF-8 does not."""
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _damaged(path: Path, reason: str) -> Unfit:
    return Unfit(
        f"{path} can't be used: {reason}; nothing was changed in it",
        "repair the file, or move it away: a new one is made",
    )
