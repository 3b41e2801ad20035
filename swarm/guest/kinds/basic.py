"""Kinds of steps for what every Linux host has: files, lines, sysctls, users, groups, keys, commands."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from swarm.guest.engine.converge import unified
from swarm.guest.engine.probe import Step, as_user
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "authorized_keys",
    "block",
    "check",
    "command",
    "content_put",
    "directory",
    "edit",
    "file",
    "group",
    "line",
    "member",
    "seed",
    "sysctl",
    "user",
    "user_block",
    "user_file",
]

_ABSENT = "absent"


def check(subject: str, probe: str, wanted: str, refuse: Callable[[str], str | None]) -> Step:
    """Return a step that changes nothing: `refuse` is given the fact and says why the work cannot be done, or None."""
    return Step(subject, probe, wanted, refuse=refuse)


def content_put(path: str, content: str, mode: str, owner: str = "root", group: str = "root") -> str:
    """Return shell that writes a whole file atomically, in a folder that is made if it is missing."""
    folder = quote(str(PurePosixPath(path).parent))
    return f"[ -d {folder} ] || mkdir -p -- {folder}\nprintf '%s' {quote(content)} | put {quote(path, mode, owner, group)}"


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
    """Return a step for a whole file: content, mode, owner and group.

    `hidden` are the secrets in it. `check` is shell that fails if the content is wrong; the file is then left as it was.
    """
    wanted = f"file {mode} {owner} {group} {_sha256(content)}"
    return Step(
        f"file {path}",
        f"file_fact {quote(path)} {_sha256(content)}",
        _described(mode, owner, group, len(content.encode("utf-8", "surrogateescape"))),
        lambda fact: (
            None if _head(fact) == wanted else f"{check}\n{content_put(path, content, mode, owner, group)}"
        ),
        after,
        shown=_shown_file,
        diff=lambda fact: (
            unified("" if _head(fact) == _ABSENT else fact.partition("\n")[2], content, path)
            if _head(fact).split()[-1] != _sha256(content)
            else None
        ),
        secrets=hidden,
        known={"files": (path,)},
    )


def user_file(name: str, path: str, content: str, *, mode: str = "644", after: tuple[str, ...] = ()) -> Step:
    """Return a step for a file that belongs to a user, in the user's home.

    It is read and written as that user: root would follow a link that the user has put there.
    """
    return _by_user(name, file(path, content, mode=mode, owner=name, group=name, after=after))


def seed(
    name: str, path: str, content: str, *, after: tuple[str, ...] = (), hidden: tuple[str, ...] = ()
) -> Step:
    """Return a step for a user's file (mode 600) that is written only if it does not exist: from then on it is the user's own."""
    step = Step(
        f"seed {path}",
        f"if [ -e {quote(path)} ]; then echo there; else echo {_ABSENT}; fi",
        "there",
        lambda fact: None if fact == "there" else content_put(path, content, "600", name, name),
        after,
        secrets=hidden,
    )
    return _by_user(name, step)


def _by_user(name: str, step: Step) -> Step:
    """The same step, looked at and done as the user `name`; a user who does not exist yet has nothing."""
    apply = step.apply

    def by_user(fact: str) -> str | None:
        script = apply(fact)
        return None if script is None else as_user(name, script)

    return replace(step, apply=by_user, reader=name, unread=_ABSENT)


def directory(path: str, *, mode: str = "755", owner: str = "root", after: tuple[str, ...] = ()) -> Step:
    """Return a step for a folder that belongs to a user and the group of the same name."""
    wanted = f"directory {mode} {owner} {owner}"
    target = quote(path)
    step = Step(
        f"folder {path}",
        f"folder_fact {target}",
        f"{mode} {owner}:{owner}",
        lambda fact: (
            None
            if fact == wanted
            else f"mkdir -p -- {target}\nchmod {mode} {target}"
            + (f"\nchown {owner}:{owner} {target}" if owner == "root" else "")
        ),
        after,
        refuse=lambda fact: f"{path} is there, but is not a folder" if fact == "other" else None,
        shown=lambda fact: None if fact == _ABSENT else fact.removeprefix("directory "),
        known={"files": (path,)},
    )
    return step if owner == "root" else _by_user(owner, step)


def edit(
    path: str,
    subject: str,
    change: Callable[[str], str],
    wanted: str,
    *,
    mode: str = "644",
    owner: str = "root",
    after: tuple[str, ...] = (),
) -> Step:
    """Return a step that changes a part of a file. `change` is given the whole content and returns the new one.

    A missing file counts as empty and is made with `mode`; one that exists keeps its mode, owner and group.
    """

    def content(fact: str) -> str:
        return fact.partition("\n")[2]

    def apply(fact: str) -> str | None:
        before = content(fact)
        if (new := change(before)) == before:
            return None
        _, was_mode, was_owner, group = (
            fact.partition("\n")[0].split()[:4] if _head(fact) != _ABSENT else ("", mode, owner, owner)
        )
        return content_put(path, new, was_mode, was_owner, group)

    # The newline that the engine takes from a fact's end belongs to the file: the probe adds one more.
    return Step(
        subject,
        f"file_fact {quote(path)} none; echo",
        wanted,
        apply,
        after,
        refuse=lambda fact: f"{path} is not a file" if _head(fact).startswith("other") else None,
        shown=lambda fact: None if _head(fact) == _ABSENT else "there, without it",
        diff=lambda fact: unified(content(fact), change(content(fact)), path),
        known={"files": (path,)},
    )


def line(path: str, text: str, match: str | None = None, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for one line of a file.

    The first line that the regular expression `match` finds is replaced, further ones are removed; without one it is added at the end.
    """

    def change(content: str) -> str:
        lines = content.splitlines()
        found = [
            index for index, old in enumerate(lines) if (re.search(match, old) if match else old == text)
        ]
        if found:
            lines[found[0]] = text
            lines = [old for index, old in enumerate(lines) if index not in found[1:]]
        else:
            lines.append(text)
        new = "\n".join(lines) + "\n"
        return content if new.splitlines() == content.splitlines() else new

    return edit(path, f"line in {path}: {text}", change, "there", after=after)


def block(path: str, name: str, text: str, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for a block of lines between two marks in a file that otherwise belongs to others."""
    return edit(
        path, f"block {name} in {path}", lambda content: with_block(content, name, text), "there", after=after
    )


def user_block(name: str, path: str, title: str, text: str, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for a block at the beginning of a file of the user `name`: .bashrc ends early where nobody types."""
    step = edit(
        path,
        f"block {title} in {path}",
        lambda content: with_block(content, title, text, top=True),
        "there",
        owner=name,
        after=after,
    )
    return _by_user(name, step)


def with_block(content: str, name: str, text: str, *, top: bool = False) -> str:
    """Return `content` with `text` as the block called `name`: where it stood, or else at the end, or with `top` at the beginning."""
    begin, end = f"# BEGIN swarm {name}", f"# END swarm {name}"
    new = f"{begin}\n{text.rstrip()}\n{end}\n"
    pattern = re.compile(rf"^{re.escape(begin)}\n.*?^{re.escape(end)}\n?", re.MULTILINE | re.DOTALL)
    if pattern.search(content):
        return pattern.sub(lambda _: new, content, count=1)
    if top:
        return new + content
    return content + ("" if not content or content.endswith("\n") else "\n") + new


def sysctl(key: str, value: str) -> Step:
    """Return a step for a kernel setting: the value that the kernel has now, and the one it will have after a reboot.

    The file's name sorts after the distributions' own 99-sysctl.conf, since the last file to name a key wins.
    """
    path = f"/etc/sysctl.d/99-zz-swarm-{key}.conf"
    content = f"# Written by swarm.\n{key} = {value}\n"
    place = "/proc/sys/" + key.replace(".", "/")
    persisted = f"file 644 root root {_sha256(content)}"

    def apply(fact: str) -> str | None:
        live, _, rest = fact.partition("\n")
        script = []
        if _head(rest) != persisted:
            script.append(content_put(path, content, "644"))
        if live.split() != value.split():
            script.append(f"printf '%s' {quote(value)} >{quote(place)}")
        return "\n".join(script) or None

    def shown(fact: str) -> str:
        live, _, rest = fact.partition("\n")
        return f"{live}, {'persisted' if _head(rest) == persisted else 'not persisted'}"

    return Step(
        f"sysctl {key}",
        f"setting_fact {quote(place)}; file_fact {quote(path)} {_sha256(content)} quiet",
        f"{value}, persisted",
        apply,
        refuse=lambda fact: f"this kernel has no setting {key}" if fact.startswith("unknown\n") else None,
        shown=shown,
        known={"files": (path,), "settings": (place,)},
    )


def group(name: str, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for a group."""
    return Step(
        f"group {name}",
        f"group_fact {quote(name)}",
        "there",
        lambda fact: None if fact == "there" else f"groupadd --system {quote(name)}",
        after,
        known={"groups": (name,)},
    )


def user(
    name: str, *, home: str, shell: str = "/bin/bash", home_mode: str = "755", after: tuple[str, ...] = ()
) -> Step:
    """Return a step for a login user with a group of the same name and a home folder."""
    wanted = f"{home}:{shell} {home_mode}"

    def apply(fact: str) -> str | None:
        if fact == wanted:
            return None
        who = quote(name)
        if fact == _ABSENT:
            make = f"useradd --create-home --home-dir {quote(home)} --shell {quote(shell)} --user-group {who}"
        else:
            make = f"usermod --home {quote(home)} --shell {quote(shell)} {who}\ninstall -d -o {who} -g {who} {quote(home)}"
        return f"{make}\nchmod {home_mode} {quote(home)}"

    return Step(
        f"user {name}",
        f"user_fact {quote(name)}",
        wanted.replace(":", ", "),
        apply,
        after,
        shown=lambda fact: None if fact == _ABSENT else fact.replace(":", ", "),
        known={"users": (name,), "files": (home,)},
    )


def member(name: str, group_name: str, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for a user's place in a group."""
    return Step(
        f"user {name} in group {group_name}",
        f"member_fact {quote(name, group_name)}",
        "yes",
        lambda fact: (
            None if fact == "yes" else f"usermod --append --groups {quote(group_name)} {quote(name)}"
        ),
        after,
        shown=lambda fact: fact,
        known={"users": (name,), "groups": (group_name,)},
    )


def authorized_keys(name: str, home: str, keys: Sequence[str], *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for the public keys that may log in as `name`. They stand in a block of their own; other lines are left alone."""
    path = f"{home}/.ssh/authorized_keys"
    text = "\n".join(keys)
    blobs = {key.split()[1] for key in keys}

    def change(content: str) -> str:
        begin, end = "# BEGIN swarm keys", "# END swarm keys"
        outside = re.sub(rf"^{begin}\n.*?^{end}\n?", "", content, flags=re.MULTILINE | re.DOTALL)
        kept = [old for old in outside.splitlines() if not blobs & set(old.split())]
        return with_block("".join(f"{old}\n" for old in kept), "keys", text)

    def apply(fact: str) -> str | None:
        before = fact.partition("\n")[2]
        if (new := change(before)) == before and fact.startswith(f"file 600 {name} "):
            return None
        return f"mkdir -p -m 700 -- {quote(f'{home}/.ssh')}\nchmod 700 {quote(f'{home}/.ssh')}\n{content_put(path, new, '600', name, name)}"

    step = Step(
        f"authorized keys of {name}",
        f"file_fact {quote(path)} none; echo",
        f"{len(keys)} of the host file",
        apply,
        after,
        shown=lambda fact: None if _head(fact) == _ABSENT else "others",
        diff=lambda fact: unified(fact.partition("\n")[2], change(fact.partition("\n")[2]), path),
        known={"files": (path,)},
    )
    return _by_user(name, step)


def command(
    subject: str,
    script: str,
    *,
    unless: str,
    after: tuple[str, ...] = (),
    as_name: str | None = None,
    hidden: tuple[str, ...] = (),
) -> Step:
    """Return a step for shell that runs only if the shell `unless` fails; that one must not change anything."""
    # A syntax error, an exit or a changed variable in either of them stays its own. The guard is not put into the "if" itself,
    # since a shell does not stop at errors there.
    work = as_user(as_name, script) if as_name else f"printf '%s\\n' {quote(script)} | sh -eu"
    return Step(
        f"command {subject}",
        f"( set -eu; eval {quote(unless)} ) >/dev/null 2>&1\nif [ $? = 0 ]; then echo done; else echo due; fi",
        "done",
        lambda fact: None if fact == "done" else work,
        after,
        shown=lambda _: None,
        secrets=hidden,
        reader=as_name or "",
        unread="due",
    )


def _sha256(content: str) -> str:
    return hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()


def _head(fact: str) -> str:
    return fact.partition("\n")[0]


def _shown_file(fact: str) -> str | None:
    words = _head(fact).split()
    return (
        None
        if words == [_ABSENT]
        else "not a regular file"
        if words[0] == "other"
        else f"{words[1]} {words[2]}:{words[3]}"
    )


def _described(mode: str, owner: str, group_name: str, size: int) -> str:
    return f"{mode} {owner}:{group_name}, {size} bytes"
