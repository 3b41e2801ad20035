"""Runs in the guest as root: scan the state directory, check a staged tree, swap it in, and undo the swap.

The order is JSON on standard input, compressed and in base64. Each line of the answer is one JSON value. Paths in the
manifest are relative to the state directory. All other paths are relative to its parent directory, which also holds
the staged tree and what was replaced. Every directory on the way is opened without following links.
"""  # noqa: INP001 - a program, not a package

from __future__ import annotations

import base64
import contextlib
import ctypes
import fcntl
import grp
import hashlib
import http.client
import json
import os
import pwd
import re
import shutil
import sqlite3
import stat
import sys
import threading
import time
import urllib.parse
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
SIDECARS = ("-wal", "-shm", "-journal")
MOST = 50  # problems that are reported one by one
OUT = open(1, "wb", closefd=False)  # noqa: SIM115 - standard output
SAYING = threading.Lock()


class Problem(Exception):
    """What is wrong, in one sentence."""


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


ORDER: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(sys.stdin.buffer.read())))
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


def pattern(text: str) -> tuple[re.Pattern[str], bool]:
    """Return a pattern of rsync as a regular expression, and whether it is for directories only."""
    folder = text.endswith("/")
    words = re.findall(r"\*\*\*?|\*|\?|\[\]?[^\]]*\]|\\.|.", text.removesuffix("/***").strip("/"), re.DOTALL)
    parts = {"**": ".*", "***": ".*", "*": "[^/]*", "?": "[^/]"}

    def one(word: str) -> str:
        if word.startswith("[") and len(word) > 1:
            return word.replace("[!", "[^", 1).replace("\\", "\\\\")
        return parts.get(word) or re.escape(word[-1])

    begin = "" if text.startswith("/") else "(?:.*/)?"
    return re.compile(begin + "".join(map(one, words)), re.DOTALL), folder


PATTERNS = [pattern(text) for text in ORDER["exclude"]]


def excluded(path: str, is_dir: bool) -> bool:  # noqa: FBT001
    """Whether a backup leaves this out, or a directory above it."""
    parent = path.rpartition("/")[0]
    hit = any(regex.fullmatch(path) and (is_dir or not folder) for regex, folder in PATTERNS)
    return hit or bool(parent and excluded(parent, True))  # noqa: FBT003


def spared(path: str, is_dir: bool) -> bool:  # noqa: FBT001
    """Whether a restore neither compares nor replaces this."""
    return path not in WANTED and (sidecar(path) or excluded(path, is_dir))


def sidecar(path: str) -> bool:
    """Whether this belongs to the previous version of a restored database."""
    return any(path.endswith(suffix) and path.removesuffix(suffix) in DATABASES for suffix in SIDECARS)


# ── scan ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def scan() -> None:
    """Report the journal of an earlier run, the accounts that are missing here, and each entry that counts."""
    say({"journal": journal().get("phase", "")})
    names = {entry["owner"] for entry in WANTED.values()}, {entry["group"] for entry in WANTED.values()}
    say(
        {
            "users": sorted(name for name in names[0] if not known(pwd.getpwnam, name)),
            "groups": sorted(name for name in names[1] if not known(grp.getgrnam, name)),
            "group": name_of(lambda: grp.getgrgid(ACCOUNT.pw_gid).gr_name, ACCOUNT.pw_gid),
        }
    )
    if not exists(STATE):
        return
    with directory(STATE) as top:
        hashes: dict[tuple[int, int], str] = {}
        for found in walk(top, lambda path, is_dir: not spared(path, is_dir)):
            if not spared(found[0], stat.S_ISDIR(found[3].st_mode)):
                report(found, hashes)
        info = os.fstat(top)
        say([".", "directory", info.st_mode & 0o777, *names_of(info), 0, "", ""])


def report(found: Found, hashes: dict[tuple[int, int], str]) -> None:
    """Report one entry. Sockets, pipes and devices are no part of a backup."""
    path, fd, name, info = found
    common = (info.st_mode & 0o777, *names_of(info))
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(info.st_mode):
            say([path, "directory", *common, 0, "", ""])
        elif stat.S_ISLNK(info.st_mode):
            say([path, "link", 0o777, *common[1:], 0, "", os.readlink(name, dir_fd=fd)])
        elif stat.S_ISREG(info.st_mode):
            key = info.st_dev, info.st_ino
            if key not in hashes:
                hashes[key] = digest(fd, name)
            say([path, "file", *common, info.st_size, "" if pending(fd, name, path) else hashes[key], ""])


def pending(fd: int, name: str, path: str) -> bool:
    """Whether a database has changes that are not in its main file yet."""
    for suffix in ("-wal", "-journal") if path in DATABASES else ():
        with contextlib.suppress(FileNotFoundError):
            if os.stat(name + suffix, dir_fd=fd, follow_symlinks=False).st_size:
                return True
    return False


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


# ── stage and check ──────────────────────────────────────────────────────────────────────────────────────────────────


def prepare() -> None:
    """Create the staging directory, which only root can enter."""
    for path in (WORK, STAGE):
        with place(path) as (parent, name), contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
        with directory(path) as fd:
            if os.fstat(fd).st_uid != os.geteuid():
                raise Problem(f"{path} belongs to another user")
            os.fchmod(fd, 0o700)
    if not ORDER["whole"]:
        remove(STAGE)
        with place(STAGE) as (parent, name):
            os.mkdir(name, 0o700, dir_fd=parent)
    with directory(STAGE) as fd:
        need, space = sum(entry["size"] for entry in WANTED.values()), os.fstatvfs(fd)
        free = space.f_bavail * space.f_frsize
        if not os.listdir(fd) and need > free:
            raise Problem(f"not enough disk space: {need >> 20} MiB are needed, {free >> 20} MiB are free")
    say({"staging": os.path.dirname(ORDER["state"]) + "/" + STAGE})  # noqa: PTH120


def check() -> None:
    """Compare the staged tree with the manifest, check the databases, then set owners, modes and times."""
    problems: dict[str, str] = {}
    with directory(STAGE) as top:
        missing = set(WANTED)
        for path, fd, name, info in walk(top, lambda path, _: not path.startswith(".swarm-archive")):
            if any(unit.startswith(f"{path}/") for unit in UNITS) or path == ".swarm-archive":
                continue
            if sidecar(path):
                os.unlink(name, dir_fd=fd)
            elif trouble := wrong(path, fd, name, info):
                problems[path] = trouble
            missing.discard(path)
        problems.update((path, "missing") for path in sorted(missing))
        for path in sorted(DATABASES & WANTED.keys() - problems.keys()):
            if trouble := unsound(path):
                problems[path] = trouble
        links = {path for path in problems if WANTED.get(path, {}).get("kind") == "link"}
        for path in [*sorted(problems.keys() - links)[:MOST], *sorted(links)[:MOST]]:
            say({"path": path, "wrong": problems[path], "fatal": path not in links})
        if not problems.keys() - links:
            finish_tree(top, links)


def wrong(path: str, fd: int, name: str, info: os.stat_result) -> str:
    """Return how a staged entry differs from the manifest, or nothing."""
    if not (entry := WANTED.get(path)):
        return "not in the manifest"
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
    if (kind := kinds.get(stat.S_IFMT(info.st_mode), "special file")) != entry["kind"]:
        return f"a {kind} instead of a {entry['kind']}"
    if kind == "link" and os.readlink(name, dir_fd=fd) != entry["target"]:
        return "a link to another target"
    if kind == "file" and info.st_size != entry["size"]:
        return f"{info.st_size} bytes instead of {entry['size']}"
    return "the content differs" if kind == "file" and digest(fd, name) != entry["sha256"] else ""


def unsound(path: str) -> str:
    """Return what SQLite finds wrong with a staged database, or nothing. The file is not changed."""
    full = os.path.join(os.path.dirname(ORDER["state"]), STAGE, path)  # noqa: PTH118, PTH120
    try:
        name = f"file:{urllib.parse.quote(os.fsencode(full))}?mode=ro&immutable=1"
        with contextlib.closing(sqlite3.connect(name, uri=True)) as connection:
            (answer,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        return f"not a sound database ({error})"
    return "" if answer == "ok" else f"not a sound database ({str(answer)[:200]})"


def finish_tree(top: int, links: set[str]) -> None:
    """Give each staged entry the owner, mode and time of the manifest, and write it all to the disk."""
    found = [(path, info) for path, _, _, info in walk(top, lambda _path, _dir: True) if path in WANTED]
    for path, info in reversed(found):  # the content of a directory before its time
        entry = WANTED[path]
        with place(f"{STAGE}/{path}") as (fd, name):
            try:
                os.chown(name, *owner(entry), dir_fd=fd, follow_symlinks=False)
                if not stat.S_ISLNK(info.st_mode):
                    os.chmod(name, entry["mode"], dir_fd=fd)
                os.utime(name, ns=(entry["mtime_ns"],) * 2, dir_fd=fd, follow_symlinks=False)
            except OSError as error:
                if not stat.S_ISLNK(info.st_mode):
                    raise
                if path not in links:
                    say({"path": path, "wrong": str(error.strerror), "fatal": False})
    ctypes.CDLL(None).syncfs(top)


# ── swap and undo ────────────────────────────────────────────────────────────────────────────────────────────────────


def journal() -> dict[str, Any]:
    """Return the journal of an unfinished run, or nothing."""
    try:
        with place(JOURNAL) as (fd, name), open(os.open(name, FILE, dir_fd=fd), "rb") as file:  # noqa: PTH123
            if os.fstat(file.fileno()).st_uid != os.geteuid():
                raise Problem(f"{JOURNAL} belongs to another user")
            value: dict[str, Any] = json.load(file)
            return value
    except FileNotFoundError:
        return {}


def write_journal(value: dict[str, Any]) -> None:
    """Replace the journal in one step, and write it to the disk."""
    with directory(WORK) as fd:
        made = os.open("journal.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600, dir_fd=fd)
        with open(made, "wb") as file:  # noqa: PTH123
            file.write(json.dumps(value).encode("ascii"))
            file.flush()
            os.fsync(made)
        os.rename("journal.new", "journal.json", src_dir_fd=fd, dst_dir_fd=fd)
        os.fsync(fd)


def move(source: str, target: str) -> None:
    """Move one entry. Nothing is ever replaced."""
    with place(source) as (out, old), place(target, make=True) as (into, new):
        if exists(target):
            raise Problem(f"{target} exists already")
        os.rename(old, new, src_dir_fd=out, dst_dir_fd=into)


def swap() -> None:
    """Move what is replaced aside, and the staged tree in. The journal tells the next run how to undo it."""
    aside = f"{REPLACED}/{ORDER['stamp']}"
    if not exists(STATE):
        with place(STATE) as (fd, name):
            os.mkdir(name, 0o700, dir_fd=fd)
    with directory(STATE) as top:
        old, kept, left = replaced(top)
        staged = [unit for unit in UNITS if exists(f"{STAGE}/{unit}")]
        moves = [[f"{STATE}/{path}", f"{aside}/{path}"] for path in old]
        moves += [[f"{STAGE}/{path}", f"{STATE}/{path}"] for path in staged]
        moves += [[f"{aside}/{path}", f"{STATE}/{path}"] for path in kept]
        record = {"phase": "swapping", "moves": moves, "aside": aside, "pid": os.getpid()}
        write_journal(record)
        for source, target in moves:
            move(source, target)
        if ORDER["whole"]:
            dress(top, None)
        ctypes.CDLL(None).syncfs(top)
    write_journal({**record, "phase": "swapped"})
    say({"aside": aside if old else "", "kept": len(kept), "left": left})


def replaced(top: int) -> tuple[list[str], list[str], int]:
    """Return what to move aside, which excluded entries to move back, and how many of those have no place anymore."""
    names = [*UNITS, *(f"{unit}{suffix}" for unit in UNITS if unit in DATABASES for suffix in SIDECARS)]
    if ORDER["whole"]:
        names += [
            path
            for path, _, _, info in walk(top, lambda _path, _dir: False)
            if path not in names and not spared(path, stat.S_ISDIR(info.st_mode))
        ]
    old = [path for path in names if exists(f"{STATE}/{path}")]
    kept, left = [], 0
    for unit in old:
        with place(f"{STATE}/{unit}") as (fd, name):
            if not stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                continue
        with directory(f"{STATE}/{unit}") as fd:
            for path, _, _, info in walk(fd, lambda path, is_dir: not out(path, is_dir), f"{unit}/"):
                if not out(path, stat.S_ISDIR(info.st_mode)):
                    continue
                parent = path.rpartition("/")[0]
                if WANTED.get(parent, {}).get("kind") == "directory" and not path.endswith(SIDECARS):
                    kept.append(path)
                else:
                    left += not path.endswith(SIDECARS)
    return old, kept, left


def out(path: str, is_dir: bool) -> bool:  # noqa: FBT001
    """Whether a backup leaves this out, so that the staged tree has nothing in its place."""
    return path not in WANTED and excluded(path, is_dir)


def undo() -> None:
    """Undo the moves of the journal, the last one first. Go on after an error, and report each."""
    record, failed = journal(), 0
    aside = record.get("aside", "")
    for number, (source, target) in reversed(list(enumerate(record.get("moves", [])))):
        try:
            if exists(target):
                if target.startswith(f"{aside}/") and exists(
                    source
                ):  # written by a gateway that did not get ready
                    move(source, f"{FAILED}/{number}-{time.time_ns()}")
                if not exists(source):
                    move(target, source)
        except (OSError, Problem) as error:
            failed += 1
            say({"path": target, "wrong": str(error), "fatal": True})
    if not failed:
        with place(JOURNAL) as (fd, name), contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=fd)
            os.fsync(fd)
        if aside and exists(aside):
            prune_empty(aside)


def prune_empty(path: str) -> None:
    """Remove directories that hold no file."""
    with directory(path) as fd:
        inner = [
            name for name, _, _, info in walk(fd, lambda _path, _dir: False) if stat.S_ISDIR(info.st_mode)
        ]
    for name in inner:
        prune_empty(f"{path}/{name}")
    with place(path) as (fd, name), contextlib.suppress(OSError):
        os.rmdir(name, dir_fd=fd)


def finish() -> None:
    """Forget the journal and the staged tree. Remove the oldest of the replaced trees."""
    for path in (JOURNAL, STAGE, FAILED):
        remove(path)
    if exists(REPLACED):
        with directory(REPLACED) as fd:
            stamps = [name for name in sorted(os.listdir(fd)) if re.fullmatch(r"\d{8}t\d{6}z(-\d+)?", name)]
        for name in stamps[: -ORDER["copies"]]:
            remove(f"{REPLACED}/{name}")


def remove(path: str) -> None:
    """Remove a file or a tree, without following links."""
    if exists(path):
        with place(path) as (fd, name):
            if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                shutil.rmtree(name, dir_fd=fd)
            else:
                os.unlink(name, dir_fd=fd)


def ready() -> None:
    """Wait until the gateway is ready, and report why if it does not get there in time."""
    end, reason = time.monotonic() + ORDER["timeout"], "no answer"
    while reason:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", ORDER["port"], timeout=5)
            connection.request("GET", "/readyz")
            status = connection.getresponse().status
            reason = "" if status == http.HTTPStatus.OK else f"HTTP status {status}"
            connection.close()
        except (OSError, http.client.HTTPException) as error:
            reason = str(error)[:200] or type(error).__name__
        if reason and time.monotonic() >= end:
            break
        time.sleep(0.5 if reason else 0)
    say({"ready": not reason, "reason": reason})


def main() -> None:
    """Carry out the order, alone, and report a failure as one sentence."""
    sys.setrecursionlimit(20_000)
    threading.Thread(target=beat, daemon=True).start()
    try:
        with contextlib.ExitStack() as stack:
            if exists(WORK):
                fcntl.flock(stack.enter_context(directory(WORK)), fcntl.LOCK_EX)
            actions = (scan, prepare, check, swap, undo, finish, ready)
            {action.__name__: action for action in actions}[ORDER["action"]]()
        say({"end": True})
    except Problem as error:
        say({"problem": str(error)})
    except OSError as error:
        say({"problem": f"{error.strerror}: {error.filename}" if error.filename else str(error)})


main()
