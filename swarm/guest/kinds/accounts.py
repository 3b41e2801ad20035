"""Steps for users, groups and the keys that may log in."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from swarm.guest.engine.script import as_user
from swarm.guest.engine.shown import unified
from swarm.guest.engine.step import Step
from swarm.guest.kinds.edits import with_block, without_blocks
from swarm.guest.kinds.parts import ABSENT, body, by_user, content_put, fields, head, octal, rows
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["authorized_keys", "group", "member", "seeded_keys", "user"]

_BLOB = re.compile("AAAA[A-Za-z0-9+/=]+")  # a public key as authorized_keys has it


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
    """Return a step for a login user with a group of the same name, and a home folder of this mode (octal).

    A group that is there is used, and a home that root has left is given to the user. An account or a group of the
    system is refused, since its rights would be the user's, and so is a home that belongs to somebody else.
    """
    home_mode = octal(home_mode)
    wanted = f"{home}:{shell} {home_mode}"

    def apply(fact: str) -> str | None:
        known = fields(body(fact), " ")
        good = known.get("home") == name and "group" in known
        if head(fact) == wanted and good:
            return None
        make = (
            _useradd(name, home, shell, known) if head(fact) == ABSENT else _usermod(name, home, shell, known)
        )
        return f"{make}\nchown -h {quote(f'{name}:{name}', home)}\nchmod {home_mode} {quote(home)}"

    def shown(fact: str) -> str | None:
        if head(fact) == ABSENT:
            return None
        known = fields(body(fact), " ")
        owner = known.get("home", name)
        rest = "" if owner == name else f", home of {owner}"
        return head(fact).replace(":", ", ") + rest + ("" if "group" in known else ", without a group")

    return Step(
        subject=f"user {name}",
        probe=f"user_fact {quote(name, home)}",
        wanted=wanted.replace(":", ", "),
        apply=apply,
        after=after,
        refuse=lambda fact: _refusal(name, home, fields(body(fact), " ")),
        shown=shown,
        known={"users": (name,), "groups": (name,), "files": (home,)},
    )


_FIRST_ID = 1000  # login.defs(5), UID_MIN: what is below it belongs to the system
_NOBODY = {65534, 65535}


def _refusal(name: str, home: str, known: Mapping[str, str]) -> str | None:
    for kind, key in (("account", "uid"), ("group", "group")):
        number = int(known.get(key, _FIRST_ID))
        if number < _FIRST_ID or number in _NOBODY:
            return f"the guest's {kind} {name} (number {number}) belongs to the system; choose another name"
    owner = known.get("home", name)
    if owner not in {name, "root"}:
        whose = "an account that is gone" if owner == "UNKNOWN" else owner
        return f"{home} belongs to {whose}, not to {name}; move it away, or change its owner"
    return None


def _useradd(name: str, home: str, shell: str, known: Mapping[str, str]) -> str:
    who = quote(name)
    group_of = f"--gid {who}" if "group" in known else "--user-group"
    parent = quote(str(PurePosixPath(home).parent))
    options = f"--create-home --home-dir {quote(home)} --shell {quote(shell)} {group_of}"
    return f"mkdir -p -- {parent}\nuseradd {options} {who}"


def _usermod(name: str, home: str, shell: str, known: Mapping[str, str]) -> str:
    """Shell that corrects an account. The date lets one log in again that install/former.py has ended."""
    who = quote(name)
    join = "" if "group" in known else f"groupadd {who}\nusermod --append --groups {who} {who}\n"
    return f"{join}usermod --home {quote(home)} --shell {quote(shell)} --expiredate '' {who}\nmkdir -p -- {quote(home)}"


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
        outside = rows(without_blocks(content, "keys"))
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
        refuse=lambda fact: _replaced(path, head(fact)),
        shown=lambda fact: None if head(fact) == ABSENT else "others",
        diff=lambda fact: unified(body(fact), change(body(fact)), path),
        known={"files": (path,)},
    )
    return step if name == "root" else by_user(name, step)


def _replaced(path: str, state: str) -> str | None:
    """Refuse a link: the file in its place would have none of the keys that it leads to."""
    if not state.startswith("other "):
        return None
    kind = state.split(" ", 4)[-1]
    return f"{path} is not a regular file but a {kind}; replace it by a file with the keys that may log in"


def seeded_keys(name: str, home: str, keys: Sequence[str], *, after: tuple[str, ...] = ()) -> Step:
    """Return a step that takes away what the first boot let log in as `name`, other than `keys`.

    cloud-init has written those keys without a mark, but its user data tell which they were. The probe is root's,
    since only root can read these.
    """
    path = f"{home}/.ssh/authorized_keys"
    wanted = {key.split()[1] for key in keys}

    def former(fact: str) -> list[str]:
        found = [blob for blob in fact.split() if blob not in wanted]
        if wrong := [blob for blob in found if not _BLOB.fullmatch(blob)]:
            raise ValueError(wrong[0])
        return found

    def apply(fact: str) -> str | None:
        if not (found := former(fact)):
            return None
        patterns = " ".join(f"-e {quote(blob)}" for blob in found)
        script = f"{{ grep -vF {patterns} {quote(path)} || :; }} | put {quote(path)} 600 {quote(name, name)}"
        return script if name == "root" else as_user(name, script)

    return Step(
        subject=f"first boot's keys of {name}",
        probe=f"seeded_keys_fact {quote(path)}",
        wanted="only those of the host file",
        apply=apply,
        after=after,
        shown=lambda fact: f"{len(former(fact))} others",
    )
