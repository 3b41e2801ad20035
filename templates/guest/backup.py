# ruff: noqa: ANN001, ANN002, ANN003, ANN201, ANN202, D103, F821, INP001, PTH101, PTH103, PTH106, PTH108, PTH112
# ruff: noqa: PTH110, PTH114, PTH116, PTH118, PTH120, PTH123, TID251
"""Describe an OpenClaw state directory and take snapshots of its SQLite databases, inside the guest.

swarm sends patterns.py, backup_tree.py and this file to the guest as one program, with REQUEST set to a JSON text, and
reads JSON lines from its output. It needs nothing but Python's standard library. Databases are opened with the rights
of the account that owns them, so that no -wal or -shm file belongs to root.
"""

import contextlib
import errno
import fcntl
import json
import os
import pwd
import re
import shutil
import socket
import sqlite3
import stat
import sys
import threading
import time
import urllib.parse

RECENT = 0.1  # seconds; a file changed later than this may change again without a new modification time
PATIENCE = 60.0  # seconds to wait for a database that another process has locked
SPARE = 16 << 20  # bytes of the guest's disk that stay free
BATCH = 200  # owners or modes in one line


def main(request):
    sign_of_life()
    account = check(request)
    root = request["state_dir"]
    tree = Tree(root, Excluded(request["exclude"]), request["known"])
    folder = os.path.join(account.pw_dir, ".swarm-backup")
    say(begin=True, staging=os.path.join(folder, "snapshots"))
    tree.walk()
    with acting_as(account), locked(folder, make=request["snapshot"]):
        snapshots(request, tree, folder)
    say(
        top=tree.top,
        leaves=tree.leaves,
        files=tree.files,
        sparse=tree.sparse,
        plain=tree.plain,
        mode=tree.mode,
        unreadable=tree.unreadable,
    )
    say(user=tree.owner[0], group=tree.owner[1])
    for start in range(0, len(tree.others), BATCH):
        say(others=tree.others[start : start + BATCH])
    for start in range(0, len(tree.closed), BATCH):
        say(closed=tree.closed[start : start + BATCH])
    say(versions=versions(root), end=True)


def say(**fields):
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def fail(code, value="", **more):
    say(error=code, value=str(value)[:500], **more)
    raise SystemExit(0)


def sign_of_life():
    def beat():
        while True:
            time.sleep(15)
            say(alive=True)

    threading.Thread(target=beat, daemon=True).start()


def check(request):
    """Check that this is the right machine, with a usable state directory. Return the account."""
    name, expected = socket.gethostname(), request["hostname"]
    if expected and name.split(".")[0] != expected.split(".")[0]:
        fail("hostname", name)
    if not shutil.which("rsync"):
        fail("rsync")
    try:
        account = pwd.getpwnam(request["user"])
    except KeyError:
        fail("account")
    root = request["state_dir"]
    if not os.path.isdir(root):
        fail("state")
    if os.path.islink(os.path.join(root, "openclaw.json")):
        fail("linked")
    try:
        with opened_at_once(os.path.join(root, "openclaw.json"), "r") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                fail("config", "it is not a regular file")
            text = file.read(32 << 20)
    except FileNotFoundError:
        fail("missing")
    except UnicodeDecodeError:
        fail("config", "it is not UTF-8")
    if reason := malformed(text):
        fail("config", reason)
    return account


def opened_at_once(path, mode):
    """Open a file. The account may have put a pipe in its place, which must not be waited for."""
    return open(
        path, mode, encoding="utf-8", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK, 0o600)
    )


def malformed(text):
    """Return what is wrong with a configuration, or None. OpenClaw reads JSON5: only its brackets are checked then."""
    try:
        data = json.loads(text)
    except ValueError:
        return unbalanced(text)
    return None if isinstance(data, dict) and data else "it is empty"


def unbalanced(text):
    quoted = r'"(?:\\.|[^"\\\n])*"' + r"|'(?:\\.|[^'\\\n])*'"
    bare = re.sub(
        quoted + r"|//[^\n]*|/\*.*?\*/",
        lambda found: "" if found[0][0] == "/" else "0",
        text,
        flags=re.DOTALL,
    )
    bare = bare.strip()
    if not bare:
        return "it is empty"
    pairs, opened = {"}": "{", "]": "["}, []
    for character in bare:
        if character in "{[":
            opened.append(character)
        elif character in pairs and (not opened or opened.pop() != pairs[character]):
            return "its brackets do not match"
    if opened or "\0" in bare or '"' in bare or "'" in bare:
        return "it ends early"
    return (
        None
        if bare[0] == "{" and bare[-1] == "}" and bare[1:-1].strip()
        else "it is not an object with settings"
    )


@contextlib.contextmanager
def acting_as(account):
    """Have the rights of `account` during the block, if this is root."""
    if os.geteuid():
        yield
        return
    groups = os.getgroups()
    os.setgroups(os.getgrouplist(account.pw_name, account.pw_gid))
    os.setegid(account.pw_gid)
    os.seteuid(account.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@contextlib.contextmanager
def locked(folder, *, make):
    """Hold the guest's own lock: a program whose connection broke may still be at work."""
    if not make:
        yield
        return
    os.makedirs(folder, mode=0o700, exist_ok=True)
    os.chmod(folder, 0o700)
    with opened_at_once(os.path.join(folder, "lock"), "w") as file:
        limit = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > limit:
                    fail("busy")
                time.sleep(0.2)
        yield


def snapshots(request, tree, folder):
    staging = os.path.join(folder, "snapshots")
    if request["snapshot"]:
        shutil.rmtree(staging, ignore_errors=True)
    fresh = {}
    for path in sorted(tree.databases):
        found = signature(os.path.join(tree.root, path))
        if found is None:
            continue
        if found == request["known"].get(path):
            say(database=path, signature=found, same=True)
        elif not request["snapshot"]:
            say(database=path, signature=found)
        else:
            fresh[path] = found
    if not fresh:
        return
    needed = sum(each[0] + each[3] for each in fresh.values()) + SPARE
    os.makedirs(staging, mode=0o700)
    disk = os.statvfs(staging)
    if disk.f_bavail * disk.f_frsize < needed:
        fail("space", staging, needed=needed, free=disk.f_bavail * disk.f_frsize)
    for path, found in fresh.items():
        snapshot(tree.root, path, staging, found)
    times(tree.root, staging)


def signature(path):
    """Return what changes when a database does, or None if it has vanished. A recent change never matches."""
    try:
        state = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    wal = (0, 0)
    with contextlib.suppress(FileNotFoundError):
        found = os.stat(path + "-wal")
        wal = (found.st_size, found.st_mtime_ns) if found.st_size else wal
    recent = time.time() - max(state.st_mtime, wal[1] / 1e9) < RECENT
    return [state.st_size, -1 if recent else state.st_mtime_ns, state.st_ino, *wal]


def snapshot(root, path, staging, found):
    live, copy = os.path.join(root, path), os.path.join(staging, path)
    os.makedirs(os.path.dirname(copy), mode=0o700, exist_ok=True)
    try:
        state = os.stat(live)
        tables, problem = copied(live, copy) if state.st_size or found[3] else (empty(copy), "")
    except (FileNotFoundError, NotADirectoryError):
        return
    except sqlite3.Error as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(copy)
        if not os.path.exists(live):  # it has vanished since then, so that nothing is wrong with it
            return
        if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL" or "disk is full" in str(error):
            fail("space", staging, needed=0, free=0)
        say(database=path, signature=found, tables={}, problem=str(error)[:300], copied=False)
        return
    os.chmod(copy, stat.S_IMODE(state.st_mode))
    os.utime(copy, ns=(state.st_mtime_ns, state.st_mtime_ns))
    say(database=path, signature=found, tables=tables, problem=problem, copied=True)


def empty(copy):
    with open(copy, "wb"):
        return {}


def copied(live, copy):
    """Copy a database as of one moment, and return its tables with their rows, and what the check found."""
    limit = time.monotonic() + PATIENCE
    for suffix in SIDECARS:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(
                os.stat(live + suffix).st_mode
            ):  # SQLite would wait for a pipe without an end
                raise sqlite3.OperationalError(f"its {suffix} is not a regular file")

    def still(*_):
        if time.monotonic() > limit:
            raise sqlite3.OperationalError("the database is locked")

    with contextlib.closing(opened(live, "mode=ro")) as source:
        try:
            with contextlib.closing(sqlite3.connect(copy)) as target:
                target.execute("PRAGMA synchronous=OFF")
                source.backup(target, pages=-1, progress=still)
        except sqlite3.Error:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(copy)
            source.execute("VACUUM INTO ?", (copy,))
    with contextlib.closing(opened(copy, "mode=ro&immutable=1")) as database:
        checked = [row[0] for row in database.execute("PRAGMA integrity_check(3)")]
        problem = "" if checked == ["ok"] else "; ".join(map(str, checked))[:300]
        return rows(database), problem


def opened(path, options):
    return sqlite3.connect(
        f"file:{urllib.parse.quote(os.fsencode(path))}?{options}", uri=True, timeout=PATIENCE
    )


def rows(database):
    """Count the rows of each table. Virtual tables may need an extension; the tables behind them count."""
    query = "SELECT name FROM sqlite_master WHERE type='table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
    names = [row[0] for row in database.execute(query)]
    counts = {}
    for table in names:
        word = '"' + table.replace('"', '""') + '"'
        counts[table] = database.execute(f"SELECT count(*) FROM {word}").fetchone()[0]  # noqa: S608 - quoted
    return counts


def times(root, staging):
    """Give the directories of the staging area the modes and times of the live ones, the deepest first."""
    for folder, _, _ in os.walk(staging, topdown=False):
        try:
            state = os.stat(os.path.join(root, os.path.relpath(folder, staging)))
        except (
            FileNotFoundError,
            NotADirectoryError,
        ):  # vanished meanwhile; a snapshot from before that stays
            with contextlib.suppress(OSError):
                os.rmdir(folder)
            continue
        os.chmod(folder, stat.S_IMODE(state.st_mode) | 0o700)
        os.utime(folder, ns=(state.st_mtime_ns, state.st_mtime_ns))


def versions(root):
    """Return OpenClaw's version, as the configuration records it."""
    try:
        with opened_at_once(os.path.join(root, "openclaw.json"), "r") as file:
            found = json.load(file)["meta"]["lastTouchedVersion"]
        return {"openclaw": str(found)[:40]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


try:
    main(json.loads(REQUEST))
except OSError as problem:
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        fail("space", problem.filename or "", needed=0, free=0)
    fail("system", f"{problem.strerror}: {problem.filename}" if problem.filename else problem.strerror)
