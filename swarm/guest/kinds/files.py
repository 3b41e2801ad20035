"""Steps for whole files and folders."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from swarm.guest.engine.shown import unified
from swarm.guest.engine.step import Step
from swarm.guest.kinds.parts import ABSENT, body, by_user, content_put, head, octal, sha256
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["directory", "file", "guarded", "once", "seed", "user_file"]

_DIGITS = 12  # hexadecimal, of a checksum: enough to tell two contents apart


def file(
    path: str,
    content: str,
    *,
    mode: str = "644",
    owner: str = "root",
    group: str = "root",
    after: tuple[str, ...] = (),
    hidden: tuple[str, ...] = (),
    check: str = "",
) -> Step:
    """Return a step for a whole file: content, mode (octal), owner and group.

    `hidden` are the secrets in it. `check` is shell that fails if the content is wrong: the file then stays unchanged.
    """
    mode, total = octal(mode), sha256(content)
    size = len(content.encode("utf-8", "surrogateescape"))

    def apply(fact: str) -> str | None:
        if head(fact) == f"file {mode} {owner} {group} {total}":
            return None
        return f"{check}\n{content_put(path, content, mode, owner, group)}"

    def diff(fact: str) -> str | None:
        if head(fact).endswith(f" {total}"):
            return None
        return unified(body(fact), content, path)

    return Step(
        subject=f"file {path}",
        probe=f"file_fact {quote(path)} {total}",
        wanted=f"{mode} {owner}:{group}, {size} bytes",
        apply=apply,
        after=after,
        shown=_shown_file,
        diff=diff,
        secrets=hidden,
        known={"files": (path,)},
    )


def guarded(step: Step, content: str, shows: Callable[[str], bool]) -> Step:
    """Return the step of a file whose plan shows checksums in place of the content, unless it may be shown.

    `shows` is given the present mode (octal; of a new file 644), and says whether it may.
    """
    total, size = sha256(content), len(content.encode("utf-8", "surrogateescape"))

    def diff(fact: str) -> str | None:
        words = head(fact).split()  # "file MODE OWNER GROUP CHECKSUM", if it is a file
        there = words[0] == "file"
        if shows(words[1] if there else "644") or (there and words[-1] == total):
            return step.diff(fact)
        now = f"{words[-1][:_DIGITS]}…" if there else ABSENT
        return f"content (private): {now} → {total[:_DIGITS]}…, {size} bytes"

    return replace(step, diff=diff)


def _shown_file(fact: str) -> str | None:
    if head(fact) == ABSENT:
        return None
    kind, mode, owner, group, *_ = head(fact).split()
    return "not a regular file" if kind == "other" else f"{mode} {owner}:{group}"


def user_file(name: str, path: str, content: str, *, mode: str = "644", after: tuple[str, ...] = ()) -> Step:
    """Return a step for a file in a user's home that belongs to the user.

    It is read and written as that user: root would follow a link that the user has put in its place.
    """
    return by_user(name, file(path, content, mode=mode, owner=name, group=name, after=after))


def seed(
    name: str, path: str, content: str, *, after: tuple[str, ...] = (), hidden: tuple[str, ...] = ()
) -> Step:
    """Return a step for a user's file (mode 600) that is written only if it does not exist."""
    step = once(path, content, mode="600", owner=name, after=after, hidden=hidden)
    return by_user(name, replace(step, subject=f"seed {path}"))


def once(
    path: str,
    content: str,
    *,
    mode: str = "644",
    owner: str = "root",
    after: tuple[str, ...] = (),
    hidden: tuple[str, ...] = (),
) -> Step:
    """Return a step for a file that is written only if it does not exist. The one that is there belongs to others."""
    return Step(
        subject=f"file {path}",
        probe=f"if [ -e {quote(path)} ]; then echo there; else echo {ABSENT}; fi",
        wanted="there",
        apply=lambda fact: None if fact == "there" else content_put(path, content, mode, owner, owner),
        after=after,
        secrets=hidden,
    )


def directory(path: str, *, mode: str = "755", owner: str = "root", after: tuple[str, ...] = ()) -> Step:
    """Return a step for a folder with this mode (octal) that belongs to a user and the group of the same name."""
    mode, target = octal(mode), quote(path)

    def apply(fact: str) -> str | None:
        if fact == f"directory {mode} {owner} {owner}":
            return None
        script = f"mkdir -p -- {target}\nchmod {mode} {target}"
        # Another owner makes the folder by itself, and may give it only to a group of its own.
        return (
            f"{script}\nchown root:root {target}" if owner == "root" else f"{script}\nchgrp {owner} {target}"
        )

    def refuse(fact: str) -> str | None:
        if fact == "other":
            return f"{path} exists, but is not a folder"
        now = fact.split()[2] if fact.startswith("directory ") else owner
        if owner not in {now, "root"}:
            return f"{path} belongs to {now}, not to {owner}; move it away, or change its owner"
        return None

    step = Step(
        subject=f"folder {path}",
        probe=f"folder_fact {target}",
        wanted=f"{mode} {owner}:{owner}",
        apply=apply,
        after=after,
        refuse=refuse,
        shown=lambda fact: None if fact == ABSENT else fact.removeprefix("directory "),
        known={"files": (path,)},
    )
    return step if owner == "root" else by_user(owner, step)
