"""Steps that change a part of a file: a line, or a block of lines between two marks."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from swarm.guest.engine.shown import unified
from swarm.guest.engine.step import Step
from swarm.guest.kinds.parts import ABSENT, body, by_user, content_put, head, rows
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["block", "edit", "line", "user_block", "with_block", "without_blocks"]


def edit(
    path: str,
    subject: str,
    change: Callable[[str], str],
    wanted: str,
    *,
    mode: str = "644",
    owner: str = "root",
    after: tuple[str, ...] = (),
    write: Callable[[str, str, str, str], str] | None = None,
) -> Step:
    """Return a step that changes a part of a file. `change` is given the whole content and returns the new one.

    A missing file counts as empty, and is created with `mode` and `owner`. An existing one keeps its own. `write` is
    given the content, the mode, the owner and the group, and returns the shell that writes them, content_put's by
    default.
    """
    put = write or partial(content_put, path)

    def apply(fact: str) -> str | None:
        before = body(fact)
        if (new := change(before)) == before:
            return None
        if head(fact) == ABSENT:
            return put(new, mode, owner, owner)
        _, mode_now, owner_now, group_now, _ = head(fact).split()
        return put(new, mode_now, owner_now, group_now)

    # The engine takes one newline off the end of a fact. This file's last newline matters, so the probe adds one more.
    return Step(
        subject=subject,
        probe=f"file_fact {quote(path)} none; echo",
        wanted=wanted,
        apply=apply,
        after=after,
        refuse=lambda fact: f"{path} is not a file" if head(fact).startswith("other") else None,
        shown=lambda fact: None if head(fact) == ABSENT else "there, without it",
        diff=lambda fact: unified(body(fact), change(body(fact)), path),
        known={"files": (path,)},
    )


def line(path: str, text: str, match: str | None = None, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for one line of a file.

    The first line in which the regular expression `match` is found (without it: that equals `text`) is replaced, and
    further ones are removed. If there is none, the line is appended.
    """

    def change(content: str) -> str:
        lines = rows(content)
        found = [
            index for index, old in enumerate(lines) if (re.search(match, old) if match else old == text)
        ]
        if not found:
            return "\n".join([*lines, text]) + "\n"
        new = [
            text if index == found[0] else old for index, old in enumerate(lines) if index not in found[1:]
        ]
        return content if new == lines else "\n".join(new) + "\n"

    return edit(path, f"line in {path}: {text}", change, "there", after=after)


def block(path: str, name: str, text: str, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for a block of lines between two marks, in a file that otherwise belongs to others."""
    return edit(
        path, f"block {name} in {path}", lambda content: with_block(content, name, text), "there", after=after
    )


def user_block(name: str, path: str, title: str, text: str, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for a block at the beginning of a user's file. Without a terminal, .bashrc ends early.

    A link to another file of the user's stays, and that file is changed. One to somebody else's file is refused.
    """

    def change(content: str) -> str:
        return with_block(content, title, text, top=True)

    def write(content: str, *access: str) -> str:
        return f"{followed}\nprintf '%s' {quote(content)} | put \"$path\" {quote(*access)}"

    followed = f"path=$(followed {quote(path)})"
    step = edit(path, f"block {title} in {path}", change, "there", owner=name, after=after, write=write)

    def refuse(fact: str) -> str | None:
        kind, *state = head(fact).split()
        if kind == "file" and state[1] != name:
            return f"{path} belongs to {state[1]}, or leads to a file that does"
        return step.refuse(fact)

    probe = f'{followed}\nfile_fact "$path" none; echo'
    return by_user(name, replace(step, probe=probe, refuse=refuse))


def with_block(content: str, name: str, text: str, *, top: bool = False) -> str:
    """Return `content` with `text` as the block `name`, in its old place or else at the end (`top`: the beginning)."""
    new = f"{_begin(name)}\n{text.rstrip()}\n{_end(name)}\n"
    if place := _find(content, name):
        return content[: place[0]] + new + content[place[1] :]
    if top:
        return new + content
    return content + ("" if not content or content.endswith("\n") else "\n") + new


def without_blocks(content: str, name: str) -> str:
    """Return `content` without the blocks `name`."""
    kept, start = [], 0
    while place := _find(content, name, start):
        kept.append(content[start : place[0]])
        start = place[1]
    return "".join([*kept, content[start:]])


def _begin(name: str) -> str:
    return f"# BEGIN swarm {name}"


def _end(name: str) -> str:
    return f"# END swarm {name}"


def _find(content: str, name: str, start: int = 0) -> tuple[int, int] | None:
    """The span of the first block after `start`, a line's beginning. Takes linear time, whatever the content."""
    first = _find_line(content, _begin(name), start)
    last = None if first is None else _find_line(content, _end(name), first)
    if first is None or last is None:
        return None
    # A mark whose end somebody has removed begins no block. What follows it, up to another block, is not ours.
    while (later := _find_line(content, _begin(name), first + len(_begin(name)) + 1)) and later < last:
        first = later
    return first, min(last + len(_end(name)) + 1, len(content))


def _find_line(content: str, text: str, start: int) -> int | None:
    """The position of the first line that equals `text`, at `start` or after it."""
    at = start
    while (at := content.find(text, at)) >= 0:
        if (at == start or content[at - 1] == "\n") and content[at + len(text) : at + len(text) + 1] in {
            "",
            "\n",
        }:
            return at
        at += len(text)
    return None
