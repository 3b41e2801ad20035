"""Steps for files of any owner: root neither reads nor writes where another user decides what a path leads to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from swarm.guest.engine.script import as_user
from swarm.guest.kinds.files import file
from swarm.guest.kinds.parts import ABSENT, head, octal, sha256
from swarm.text import quote

if TYPE_CHECKING:
    from swarm.guest.engine.step import Step

__all__ = ["owned_file"]

_THEIRS = "theirs"  # the fact of a file of root's that is in another user's folder


def owned_file(
    path: str,
    content: str,
    *,
    mode: str = "644",
    owner: str = "root",
    group: str = "",
    after: tuple[str, ...] = (),
) -> Step:
    """Return a step for a whole file. `group` is by default the owner's group of the same name.

    Where root alone decides what the path leads to, as in /etc, root writes the file. Elsewhere the owner does: missing
    folders are then the owner's too, and a link that the owner has put there is followed with the owner's own rights. A
    file of root's in such a place is refused.
    """
    step = file(path, content, mode=mode, owner=owner, group=group or owner, after=after)
    step = replace(step, known={"files": (path, *map(str, PurePosixPath(path).parents))})
    if owner == "root":
        return _of_root(step, path)
    access = quote(octal(mode), owner, group or owner)
    folder = 'folder=$(dirname -- "$path")\n[ -d "$folder" ] || mkdir -p -- "$folder"'
    writing = f"{folder}\nprintf '%s' {quote(content)} | put \"$path\" {access}"
    return _of_user(step, path, owner, sha256(content), writing)


def _of_root(step: Step, path: str) -> Step:
    folder = str(PurePosixPath(path).parent)

    def refuse(fact: str) -> str | None:
        if head(fact) != _THEIRS:
            return step.refuse(fact)
        return (
            f"{path}: a user other than root decides where {folder} leads; set the file's owner to that user"
        )

    return replace(
        step, probe=f"if root_only {quote(folder)}; then {step.probe}; else echo {_THEIRS}; fi", refuse=refuse
    )


def _of_user(step: Step, path: str, owner: str, total: str, writing: str) -> Step:
    """Let root work where it alone decides, and the owner elsewhere. `writing` is shell that writes to "$path"."""
    place, target = quote(str(PurePosixPath(path).parent)), f"path=$(followed {quote(path)})"
    asked = as_user(owner, f'{target}\nfile_fact "$path" {total}')
    probe = (
        f"if root_only {place}; then {step.probe}\n"
        f"elif id -u {quote(owner)} >/dev/null; then {asked}\n"
        f"else echo {ABSENT}; fi"
    )

    def apply(fact: str) -> str | None:
        if step.apply(fact) is None:
            return None
        by_owner = f"printf '%s\\n' \"$swarm_prelude\" 'set -eu' {quote(target)} \"$writing\" | as_user {quote(owner)}"
        return (
            f"writing={quote(writing)}\n"
            f'if root_only {place}; then path={quote(path)}; eval "$writing"\n'
            f"else {by_owner}; fi"
        )

    return replace(step, probe=probe, apply=apply)
