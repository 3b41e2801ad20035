"""The question that a remote hypervisor's machine is asked, and what it answers. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, cast

from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from ipaddress import IPv4Address

__all__ = ["QEMU_USERS", "Above", "Answer", "Entry", "Malformed", "User", "parse", "script", "searchable"]

QEMU_USERS = ("libvirt-qemu", "qemu")
_KINDS = ("folder", "other", "missing", "hidden")
_NAMES = 3  # of what a folder holds; one is shown

# It runs in POSIX shells with the tools of GNU and of BusyBox. `holds` and `real` repeat their word on each line, since
# a name may contain a newline.
_SCRIPT = r"""
export LC_ALL=C
look() {
  printf 'path %s\n' "$1"
  there=$2
  while [ ! -e "$there" ]; do there=${there%/*}; there=${there:-/}; done
  if [ -d "$2" ]; then
    echo 'kind folder'
    readlink -f "$2" | sed 's/^/real /'
    ls -A "$2" 2>/dev/null | head -n NAMES | sed 's/^/holds /'
  elif [ -e "$2" ]; then echo 'kind other'
  elif [ -L "$2" ] || [ ! -d "$there" ] || [ -x "$there" ]; then echo 'kind missing'
  else echo 'kind hidden'
  fi
  df -Pk "$there" 2>/dev/null | sed -n '2s/.* \([0-9][0-9]*\)  *[0-9-][0-9]*%* .*/free \1/p'
  while :; do
    stat -L -c 'above %a %u %g %n' "$there" 2>/dev/null
    [ "$there" = / ] && break
    there=${there%/*}; there=${there:-/}
  done
}
printf 'home %s\n' "$HOME"
for user in USERS; do
  if id=$(id -u "$user" 2>/dev/null); then printf 'user %s %s\n' "$id" "$(id -G "$user")"; fi
done
grep -B1 '/32 host LOCAL' /proc/net/fib_trie 2>/dev/null | sed -n 's/^.*|-- /address /p' | sort -u | head -n 1000
"""


class Malformed(Exception):
    """There is no answer that could be used. The message says why."""


@dataclass(frozen=True)
class Above:
    """A folder on the way to a path, itself included: its mode and its owner."""

    path: str
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True)
class User:
    """A user of the hypervisor that QEMU may run as."""

    uid: int
    gids: frozenset[int]


@dataclass(frozen=True)
class Entry:
    """What is known of one path.

    `hidden` is a path that the login may not look at. `real` is where a folder's path leads, `names` are the first
    names in it, `free` the free bytes where it is or would be, `above` the folders down to it that exist, beginning at
    the root.
    """

    kind: Literal["folder", "other", "missing", "hidden"] = "hidden"
    real: str = ""
    names: tuple[str, ...] = ()
    free: int | None = None
    above: tuple[Above, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What the machine says: its paths, its own IPv4 addresses (empty if unknown), the login's home, QEMU's users."""

    paths: Mapping[str, Entry] = field(default_factory=dict)
    addresses: frozenset[IPv4Address] = frozenset()
    home: str = ""
    users: tuple[User, ...] = ()


def script(paths: Sequence[str]) -> str:
    """Return the script that looks at `paths`. It changes nothing."""
    text = _SCRIPT.replace("USERS", quote(*QEMU_USERS)).replace("NAMES", str(_NAMES))
    return "\n".join(
        [text, *(quote("look", str(number), path) for number, path in enumerate(paths)), "exit 0"]
    )


def parse(lines: Iterable[bytes], paths: Sequence[str]) -> Answer:
    """Return what the script printed as an Answer. Raise Malformed if it is not what the script prints."""
    answer, entries, number = Answer(), {}, -1
    for line in lines:
        word, _, rest = line.decode("utf-8", "replace").partition(" ")
        try:
            if word == "path":
                number = int(rest)
                entries[paths[number]] = Entry()
            elif word in {"home", "user", "address"}:
                answer = _general(answer, word, rest)
            elif word:
                path = paths[number]
                entries[path] = _entry(entries[path], word, rest)
        except (ValueError, KeyError, IndexError):
            raise Malformed("its answer is malformed") from None
    if set(entries) != set(paths):
        raise Malformed("its answer is incomplete")
    return replace(answer, paths=entries)


def _general(answer: Answer, word: str, rest: str) -> Answer:
    if word == "home":
        return replace(answer, home=rest)
    if word == "user":
        uid, *gids = map(int, rest.split())
        return replace(answer, users=(*answer.users, User(uid, frozenset(gids))))
    return replace(answer, addresses=answer.addresses | {ipaddress.IPv4Address(rest)})


def _entry(entry: Entry, word: str, rest: str) -> Entry:
    if word == "kind" and rest in _KINDS:
        return replace(entry, kind=cast("Literal['folder', 'other', 'missing', 'hidden']", rest))
    if word == "real":
        return replace(entry, real=entry.real or rest)
    if word == "holds":
        return replace(entry, names=(*entry.names, rest)[:_NAMES])
    if word == "free":
        return replace(entry, free=int(rest) << 10)
    if word == "above":
        mode, uid, gid, path = rest.split(" ", 3)
        return replace(entry, above=(Above(path, int(mode, 8), int(uid), int(gid)), *entry.above))
    raise ValueError(word)


def searchable(folder: Above, users: Sequence[User]) -> bool:
    """Return whether QEMU's user can search a folder. Without one, whether everybody can. Pure."""
    for user in users:
        if folder.uid == user.uid:
            return bool(folder.mode & 0o100)
        if folder.gid in user.gids:
            return bool(folder.mode & 0o010)
    return bool(folder.mode & 0o001)
