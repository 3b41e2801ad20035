"""Runs in the guest as root: scan the state directory, check a staged tree, swap it in, and undo the swap.

The order is JSON on standard input, compressed and in base64. Each line of the answer is one JSON value. Paths in the
manifest are relative to the state directory. All other paths are relative to its parent directory, which also holds
the staged tree and what was replaced. Every directory on the way is opened without following links.
swarm.backup.swap sends this module with patterns, restore_files and restore_swap, and a loader that runs all four.
"""  # noqa: INP001 - a program, not a package

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import grp
import http.client
import os
import pwd
import sqlite3
import stat
import sys
import threading
import time
import urllib.parse

from restore_files import (
    ACCOUNT,
    DATABASES,
    MOST,
    ORDER,
    STAGE,
    STATE,
    UNITS,
    WANTED,
    WORK,
    Found,
    Full,
    Problem,
    beat,
    digest,
    directory,
    exists,
    known,
    name_of,
    names_of,
    owner,
    place,
    remove,
    say,
    sidecar,
    spared,
    stray,
    walk,
)
from restore_swap import finish, journal, swap, undo

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
        need, space = ORDER["need"], os.fstatvfs(fd)
        free = space.f_bavail * space.f_frsize
        if not os.listdir(fd) and need > free:  # noqa: PTH208
            raise Full(f"not enough disk space: {need >> 20} MiB are needed, {free >> 20} MiB are free")
    say({"staging": os.path.dirname(ORDER["state"]) + "/" + STAGE})  # noqa: PTH120


def check() -> None:
    """Compare the staged tree with the manifest, check the databases, then set owners, modes and times."""
    problems: dict[str, str] = {}
    with directory(STAGE) as top:
        missing = set(WANTED)
        above = {unit[:end] for unit in UNITS for end, sign in enumerate(unit) if sign == "/"}
        for path, fd, name, info in walk(top, lambda path, _: path != ".swarm-archive"):
            if path in above or path == ".swarm-archive":
                continue
            if sidecar(path) or stray(path):
                os.unlink(name, dir_fd=fd)
            elif trouble := wrong(path, fd, name, info):
                problems[path] = trouble
            missing.discard(path)
        problems.update((path, "missing") for path in sorted(missing))
        for path in sorted(DATABASES & WANTED.keys() - problems.keys()):
            if trouble := unsound(path):
                problems[path] = trouble
        links = {path for path in problems if WANTED.get(path, {}).get("kind") == "link"}
        fatal = problems.keys() - links
        for path in [*sorted(fatal)[:MOST], *sorted(links)[:MOST]]:
            say({"path": path, "wrong": problems[path], "fatal": path not in links})
        if fatal:  # rsync would take what is left for the same files again, and no restore would ever pass
            remove(STAGE)
        else:
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
        say({"problem": str(error), "unfit": error.unfit})
    except OSError as error:
        text = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        say({"problem": text, "unfit": error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS}})


main()
