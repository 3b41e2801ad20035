"""What the parts of the restore program in the guest share: order, answer, paths, patterns, owners."""  # noqa: INP001

from __future__ import annotations

import contextlib
import functools
import grp
import hashlib
import json
import os
import pwd
import shutil
import stat
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from patterns import Excluded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
SIDECARS = ("-wal", "-shm", "-journal")
STRAYS = tuple(suffix + each for suffix in (".sqlite", ".sqlite3", ".db", ".db3") for each in SIDECARS)
MOST = 50  # problems that are reported one by one
OUT = open(1, "wb", closefd=False)  # noqa: SIM115 - standard output
SAYING = threading.Lock()


class Problem(Exception):
    """What is wrong, in one sentence. `unfit`: with the machine, not with the backup."""

    unfit = False


class Full(Problem):
    """The disk has no space left."""

    unfit = True


def say(value: object) -> None:
    """Write one line of the answer."""
    with SAYING:
        OUT.write(json.dumps(value).encode("ascii") + b"\n")
        OUT.flush()


def beat() -> None:
    """Write an empty line every 15 s, as a sign of life."""
    while True:
        time.sleep(15)
        with SAYING, contextlib.suppress(OSError):
            OUT.write(b"\n")
            OUT.flush()


ORDER: dict[str, Any] = sys.modules["__main__"].ORDER  # set by the loader
STATE: str = os.path.basename(ORDER["state"])  # noqa: PTH119 - bytes that are no UTF-8 must survive
WORK, REPLACED = f"{STATE}-restore", f"{STATE}-replaced"
STAGE, FAILED, JOURNAL = f"{WORK}/staging", f"{WORK}/failed", f"{WORK}/journal.json"
UNITS: list[str] = ORDER.get("units", [])
WANTED: dict[str, dict[str, Any]] = {
    row[0]: dict(zip(ORDER["fields"], row, strict=True)) for row in ORDER["entries"]
}
DATABASES = set(ORDER["databases"])
try:
    HOME = os.open(os.path.dirname(ORDER["state"]), os.O_RDONLY | os.O_DIRECTORY)  # noqa: PTH120
    ACCOUNT = pwd.getpwnam(ORDER["account"])
except (OSError, KeyError) as missing:
    say({"problem": f"{missing}"})
    sys.exit(0)


# ── paths ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def place(path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
    """Open the directory that holds `path`. Give its descriptor and the last component. With `make`, create parents."""
    *parts, name = path.split("/")
    if {"", ".", ".."} & {*parts, name}:
        raise Problem(f"{path} is not a path beneath {ORDER['state']}")
    fd = os.dup(HOME)
    try:
        for number, part in enumerate(parts):
            fresh = False
            with contextlib.suppress(FileExistsError):
                if make:
                    os.mkdir(part, 0o700, dir_fd=fd)
                    fresh = True
            try:
                inner = os.open(part, DIRECTORY, dir_fd=fd)
            except NotADirectoryError:
                raise Problem(f"{'/'.join(parts[: number + 1])} is not a directory, or is a link") from None
            os.close(fd)
            fd = inner
            if fresh:
                dress(fd, WANTED.get("/".join(parts[1 : number + 1])) if parts[0] == STATE else None)
        yield fd, name
    finally:
        os.close(fd)


def dress(fd: int, entry: dict[str, Any] | None) -> None:
    """Give a new directory the owner and mode of its entry, or those of a private directory of the account."""
    os.fchown(fd, *(owner(entry) if entry else (ACCOUNT.pw_uid, ACCOUNT.pw_gid)))
    os.fchmod(fd, entry["mode"] if entry else 0o700)


def exists(path: str) -> bool:
    """Whether there is anything at `path`."""
    try:
        with place(path) as (fd, name):
            os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@contextlib.contextmanager
def directory(path: str) -> Iterator[int]:
    """Open a directory that must not be a link."""
    try:
        with place(path) as (parent, name):
            fd = os.open(name, DIRECTORY, dir_fd=parent)
    except NotADirectoryError:
        raise Problem(f"{path} is not a directory, or is a link") from None
    try:
        yield fd
    finally:
        os.close(fd)


Found = tuple[str, int, str, os.stat_result]


def walk(fd: int, enter: Callable[[str, bool], bool], prefix: str = "") -> Iterator[Found]:
    """Yield everything beneath an open directory. Descend into the directories for which `enter` is true."""
    for name in sorted(os.listdir(fd)):
        path = prefix + name
        try:
            info = os.stat(name, dir_fd=fd, follow_symlinks=False)
            yield path, fd, name, info
            if stat.S_ISDIR(info.st_mode) and enter(path, True):  # noqa: FBT003
                inner = os.open(name, DIRECTORY, dir_fd=fd)
                try:
                    yield from walk(inner, enter, f"{path}/")
                finally:
                    os.close(inner)
        except FileNotFoundError:  # it has vanished meanwhile
            continue


# ── what is left alone ───────────────────────────────────────────────────────────────────────────────────────────────


EXCLUDED = Excluded(ORDER["exclude"])


@functools.lru_cache(maxsize=1 << 16)
def excluded(path: str, is_dir: bool) -> bool:  # noqa: FBT001
    """Whether a backup leaves this out, a directory above it, or the database that it belongs to."""
    parent, database = path.rpartition("/")[0], path.rpartition("-")[0] if stray(path) else path
    hit = EXCLUDED.matches(path, is_dir) or EXCLUDED.matches(database, is_dir)
    return hit or bool(parent and excluded(parent, True))  # noqa: FBT003


def spared(path: str, is_dir: bool) -> bool:  # noqa: FBT001
    """Whether a restore neither compares nor replaces this."""
    return path not in WANTED and (sidecar(path) or excluded(path, is_dir))


def sidecar(path: str) -> bool:
    """Whether this belongs to the previous version of a restored database."""
    return any(path.endswith(suffix) and path.removesuffix(suffix) in DATABASES for suffix in SIDECARS)


def stray(path: str) -> bool:
    """Whether this belongs to a database that is not restored."""
    return path.endswith(STRAYS) and not {path, path.rpartition("-")[0]} & WANTED.keys()


# ── files and owners ────


def digest(fd: int, name: str) -> str:
    """Return the SHA-256 of a regular file."""
    total = hashlib.sha256()
    with open(os.open(name, FILE, dir_fd=fd), "rb", buffering=0) as file:  # noqa: PTH123
        while data := file.read(1 << 20):
            total.update(data)
    return total.hexdigest()


def known(find: Callable[[str], object], name: str) -> bool:
    """Whether an account or a group exists."""
    try:
        return bool(find(name))
    except (KeyError, ValueError):
        return False


def name_of(find: Callable[[], str], number: int) -> str:
    """Return the name of an ID, or the ID itself."""
    try:
        return find()
    except KeyError:
        return str(number)


def names_of(info: os.stat_result) -> tuple[str, str]:
    """Return the names of the owner and the group."""
    user = name_of(lambda: pwd.getpwuid(info.st_uid).pw_name, info.st_uid)
    return user, name_of(lambda: grp.getgrgid(info.st_gid).gr_name, info.st_gid)


def owner(entry: dict[str, Any]) -> tuple[int, int]:
    """Return the IDs of an entry's owner and group. The account and its group stand in for missing ones."""
    try:
        uid = pwd.getpwnam(entry["owner"]).pw_uid
    except (KeyError, ValueError):
        uid = ACCOUNT.pw_uid
    try:
        gid = grp.getgrnam(entry["group"]).gr_gid
    except (KeyError, ValueError):
        gid = ACCOUNT.pw_gid
    return uid, gid


def remove(path: str) -> None:
    """Remove a file or a tree, without following links."""
    if exists(path):
        with place(path) as (fd, name):
            if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                shutil.rmtree(name, dir_fd=fd)
            else:
                os.unlink(name, dir_fd=fd)
