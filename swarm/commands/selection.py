"""Which hosts a command is for: what --host names."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from swarm.errors import InventoryError, SwarmError, UsageError, explained
from swarm.inventory import Host, cross_check, load, load_several, names
from swarm.inventory.checks import file_of
from swarm.inventory.document import read

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Selection", "chosen", "every"]

_EXAMPLES = "give names, patterns such as 'web*', groups such as @home, or all, separated by commas"


@dataclass(frozen=True)
class Selection:
    """The hosts that a command is for, and the errors of the host files that can't be used."""

    hosts: list[Host]
    broken: dict[str, SwarmError] = field(default_factory=dict)
    of_several: bool = False  # it is what remains of a larger selection

    @property
    def several(self) -> bool:
        """Whether each line must name its host."""
        return self.of_several or len(self.hosts) + len(self.broken) > 1


def chosen(words: str | None) -> Selection:
    """Return the hosts that `--host` names: names, patterns, @groups or "all", separated by commas, each host once.

    Raise InventoryError for a host file that is named and can't be used. Patterns, groups and "all" tolerate it: if it
    may be meant, it becomes an error of its own, and the other hosts run. Raise UsageError if no host is named.
    """
    if not words:
        raise UsageError("which host? --host takes names, patterns, @groups, or all", _known())
    wanted = [word.strip() for word in words.split(",") if word.strip()]
    if not wanted:
        raise UsageError("--host names no host", _known())
    if not names() and any(map(_wide, wanted)):
        raise UsageError("there are no host files", "hosts/demo.yaml is a host file that runs anywhere")
    if not any(map(_wide, wanted)):
        return Selection(load_several(list(dict.fromkeys(wanted))))
    return _wide_selection(wanted)


def every() -> Selection:
    """Return all hosts. A broken host file, or a clash between two, excludes only the hosts concerned."""
    loaded, broken = dict[str, Host](), dict[str, SwarmError]()
    for name in names():
        try:
            loaded[name] = load(name)
        except Exception as error:  # noqa: BLE001 - a broken file must not hide the others
            broken[name] = explained(error)
    everyone = list(loaded.values())
    try:
        cross_check(everyone)
    except InventoryError:
        for name in list(loaded):
            try:
                cross_check(everyone, [name])
            except InventoryError as error:
                broken[name] = error
                del loaded[name]
    return Selection(list(loaded.values()), broken)


def _wide(word: str) -> bool:
    """Whether a word may stand for several hosts."""
    return word == "all" or word.startswith("@") or any(sign in word for sign in "*?[")


def _wide_selection(wanted: Iterable[str]) -> Selection:
    everyone = every()
    loaded = {host.name: host for host in everyone.hosts}
    found: dict[str, None] = {}
    broken = dict[str, SwarmError]()
    for word in wanted:
        hosts, errors = _meant(word, loaded, everyone.broken)
        found |= dict.fromkeys(hosts)
        broken |= errors
    return Selection([loaded[name] for name in found], broken)


def _meant(
    word: str, loaded: dict[str, Host], broken: dict[str, SwarmError]
) -> tuple[list[str], dict[str, SwarmError]]:
    """Return the names of the hosts that one word stands for, and the broken files that it may stand for."""
    if word == "all":
        return list(loaded), broken
    if word.startswith("@"):
        members = [name for name, host in loaded.items() if word[1:] in host.groups]
        errors = {name: error for name, error in broken.items() if _may_be_in(name, word[1:])}
        if not (members or errors):
            raise UsageError(f"no host is in the group {word}", _groups(loaded.values()))
        return members, errors
    if not _wide(word):
        load_several([word])  # raises what is wrong with a host that is named
        return [word], {}
    hits = [name for name in loaded if fnmatchcase(name, word)]
    errors = {name: error for name, error in broken.items() if fnmatchcase(name, word)}
    if not hits and not errors:
        raise UsageError(f"no host has a name like {word!r}", _known())
    return hits, errors


def _may_be_in(name: str, group: str) -> bool:
    """Whether a broken host file may belong to a group: it names the group, or its groups can't be read."""
    try:
        groups = read(file_of(name)).values.get("groups") or []
    except Exception:  # noqa: BLE001 - whatever is wrong with the file, its groups are not known
        return True
    return not isinstance(groups, list) or group in groups


def _known() -> str:
    return f"known hosts: {', '.join(names()) or 'none yet'}; {_EXAMPLES}"


def _groups(hosts: Iterable[Host]) -> str:
    known = sorted({f"@{group}" for host in hosts for group in host.groups})
    return f"known groups: {', '.join(known)}" if known else "a host file names its groups: groups: [home]"
