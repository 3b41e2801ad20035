"""Steps for users, groups and the keys that may log in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.guest.engine.shown import unified
from swarm.guest.engine.step import Step
from swarm.guest.kinds.edits import with_block, without_blocks
from swarm.guest.kinds.parts import ABSENT, body, by_user, content_put, head, octal
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["authorized_keys", "group", "member", "user"]


def group(name: str, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for a system group."""
    return Step(
        subject=f"group {name}",
        probe=f"group_fact {quote(name)}",
        wanted="there",
        apply=lambda fact: None if fact == "there" else f"groupadd --system {quote(name)}",
        after=after,
        known={"groups": (name,)},
    )


def user(
    name: str, *, home: str, shell: str = "/bin/bash", home_mode: str = "755", after: tuple[str, ...] = ()
) -> Step:
    """Return a step for a login user with a group of the same name, and a home folder of this mode (octal)."""
    home_mode, who, folder = octal(home_mode), quote(name), quote(home)
    wanted = f"{home}:{shell} {home_mode}"

    def apply(fact: str) -> str | None:
        if fact == wanted:
            return None
        if fact == ABSENT:
            make = f"useradd --create-home --home-dir {folder} --shell {quote(shell)} --user-group {who}"
        else:
            make = (
                f"usermod --home {folder} --shell {quote(shell)} {who}\ninstall -d -o {who} -g {who} {folder}"
            )
        return f"{make}\nchmod {home_mode} {folder}"

    return Step(
        subject=f"user {name}",
        probe=f"user_fact {quote(name)}",
        wanted=wanted.replace(":", ", "),
        apply=apply,
        after=after,
        shown=lambda fact: None if fact == ABSENT else fact.replace(":", ", "),
        known={"users": (name,), "files": (home,)},
    )


def member(name: str, group_name: str, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for a user's membership in a group."""
    script = f"usermod --append --groups {quote(group_name)} {quote(name)}"
    return Step(
        subject=f"user {name} in group {group_name}",
        probe=f"member_fact {quote(name, group_name)}",
        wanted="yes",
        apply=lambda fact: None if fact == "yes" else script,
        after=after,
        shown=lambda fact: fact,
        known={"users": (name,), "groups": (group_name,)},
    )


def authorized_keys(name: str, home: str, keys: Sequence[str], *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for the public keys that may log in as `name`.

    They are kept in a block of their own. Lines outside it stay, except those that hold one of these keys.
    """
    path, folder = f"{home}/.ssh/authorized_keys", quote(f"{home}/.ssh")
    blobs = {key.split()[1] for key in keys}

    def change(content: str) -> str:
        outside = without_blocks(content, "keys").splitlines()
        kept = [old for old in outside if not blobs & set(old.split())]
        return with_block("".join(f"{old}\n" for old in kept), "keys", "\n".join(keys))

    def apply(fact: str) -> str | None:
        new = change(body(fact))
        if new == body(fact) and fact.startswith(f"file 600 {name} "):
            return None
        put = content_put(path, new, "600", name, name)
        return f"mkdir -p -m 700 -- {folder}\nchmod 700 {folder}\n{put}"

    step = Step(
        subject=f"authorized keys of {name}",
        probe=f"file_fact {quote(path)} none; echo",
        wanted=f"{len(keys)} of the host file",
        apply=apply,
        after=after,
        shown=lambda fact: None if head(fact) == ABSENT else "others",
        diff=lambda fact: unified(body(fact), change(body(fact)), path),
        known={"files": (path,)},
    )
    return by_user(name, step)
