"""Swap a checked tree in, and undo that: a part of the restore program in the guest."""  # noqa: INP001

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import stat
import time
from typing import Any

from restore_files import (
    DATABASES,
    FAILED,
    FILE,
    JOURNAL,
    ORDER,
    REPLACED,
    SIDECARS,
    STAGE,
    STATE,
    UNITS,
    WANTED,
    WORK,
    Problem,
    directory,
    dress,
    excluded,
    exists,
    place,
    remove,
    say,
    sidecar,
    spared,
    walk,
)

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
    stamp = f"{REPLACED}/{ORDER['stamp']}"
    names = (stamp, *(f"{stamp}-{number}" for number in range(2, 1000)))
    aside = next(name for name in names if not exists(name))
    if not exists(STATE):
        with place(STATE) as (fd, name):
            os.mkdir(name, 0o700, dir_fd=fd)
    with directory(STATE) as top:
        old, kept, left = replaced(top)
        staged = [unit for unit in UNITS if exists(f"{STAGE}/{unit}")]
        moves = [[f"{STATE}/{path}", f"{aside}/{path}"] for path in old]
        moves += [[f"{STAGE}/{path}", f"{STATE}/{path}"] for path in staged]
        moves += [[f"{aside}/{path}", f"{STATE}/{path}"] for path in kept]
        record = {"pid": os.getpid(), "phase": "swapping", "aside": aside, "moves": moves}
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
    listed = set(names)
    if ORDER["whole"]:
        names += [
            path
            for path, _, _, info in walk(top, lambda _path, _dir: False)
            if path not in listed and not spared(path, stat.S_ISDIR(info.st_mode))
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
                if WANTED.get(parent, {}).get("kind") == "directory" and not sidecar(path):
                    kept.append(path)
                else:
                    left += not sidecar(path)
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
                # Written by a gateway that did not get ready.
                if target.startswith(f"{aside}/") and exists(source):
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
    current = os.path.basename(journal().get("aside", ""))  # noqa: PTH119
    if exists(REPLACED):
        with directory(REPLACED) as fd:
            found = sorted(os.listdir(fd))  # noqa: PTH208
            stamps = [name for name in found if re.fullmatch(r"\d{8}t\d{6}z(-\d+)?", name)]
        stamps = [name for name in stamps if name != current]  # the newest, also if the clock was set back
        for name in stamps[: max(0, len(stamps) + 1 - ORDER["copies"])]:
            remove(f"{REPLACED}/{name}")
    for path in (STAGE, FAILED, JOURNAL):
        remove(path)
