"""Read an old Ansible folder: the hosts of its inventory, and the variables of each, with file and line.

Nothing is evaluated: a tagged value (!vault) or a Jinja expression is reported, never decrypted, rendered or shown.
Every scalar stays text, so that no version of YAML decides what `yes` or 52:54:00:01:00:11 means.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from swarm.errors import UsageError
from swarm.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Folder", "Left", "Origin", "Value", "read"]

INVENTORIES = ("inventory.yml", "inventory.yaml", "hosts.yml", "hosts.yaml")
_SUFFIXES = ("", ".yml", ".yaml", ".json")  # of a file of variables, in Ansible's order; a folder has none
_LIMIT = 256 * 1024  # bytes of a file
_MOST_FILES = 4096
_MOST_NODES = 20_000  # YAML nodes of a file; aliases that expand to more are an attack
_DEPTH = 24  # levels of YAML, and of groups
_JINJA = re.compile(r"\{[{%#]")
_MERGE = "tag:yaml.org,2002:merge"  # <<: *anchor
_CORE = {
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map", "timestamp")
}


@dataclass(frozen=True, order=True)
class Origin:
    """A place in the old folder: the path from there, and the line (0: the whole file)."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return visible(f"{self.file}:{self.line}" if self.line else self.file, lines=False)


@dataclass(frozen=True)
class Left:
    """Something that could not be carried over, and why. `name` is a variable's, or that of a host or file."""

    where: Origin
    name: str
    why: str

    def line(self) -> str:
        """Return it as one sentence for people."""
        return visible(f"{self.where}: {self.name}: {self.why}", lines=False)


@dataclass(frozen=True)
class Value:
    """A variable's value: text, a list or a dict of texts; and where it stands. `why` says why it can't be used."""

    raw: Any
    where: Origin
    why: str = ""


Variables = dict[str, Value]


@dataclass
class Folder:
    """What was read: the variables of each host, where it is named, and what could not be read."""

    hosts: dict[str, Variables] = field(default_factory=dict)
    named: dict[str, Origin] = field(default_factory=dict)
    left: list[Left] = field(default_factory=list)


@dataclass
class _Group:
    depth: int = 0
    variables: Variables = field(default_factory=dict)
    hosts: dict[str, Variables] = field(default_factory=dict)
    children: set[str] = field(default_factory=set)


class _Unsafe(Exception):
    """A file that is not read, and why."""


def read(path: Path) -> Folder:
    """Read the folder. Raise UsageError if it has no inventory that can be read."""
    if not path.is_dir():
        raise UsageError(f"--from: {path} is not a directory", "give the old folder, which has inventory.yml")
    name = next((name for name in INVENTORIES if (path / name).is_file()), None)
    if name is None:
        raise UsageError(
            f"--from: {path} has none of {', '.join(INVENTORIES)}",
            "convert an inventory in another format first: ansible-inventory --list --yaml > inventory.yml",
        )
    reader = _Reader(path)
    try:
        top = reader.load(name)
    except _Unsafe as error:
        raise UsageError(
            f"--from: {path / name}: {error}", "correct the file, or move its hosts to another"
        ) from None
    reader.groups["all"] = _Group()
    for group, body in _pairs(top):
        reader.group(group, body, 0 if group == "all" else 1)
    return reader.merged()


class _Reader:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made = Folder()
        self.groups: dict[str, _Group] = {}
        self.files = 0

    # ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def load(self, name: str) -> Value:
        """Return the content of a YAML file. Raise _Unsafe."""
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        text = self._text(name)
        if text.startswith("$ANSIBLE_VAULT"):
            raise _Unsafe("the file is encrypted with Ansible Vault")
        try:
            node = YAML(typ="safe", pure=True).compose(text)
        except YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            raise _Unsafe(f"invalid YAML{f' in line {mark.line + 1}' if mark else ''}") from None
        except (
            ValueError,
            ArithmeticError,
            LookupError,
            AssertionError,
            AttributeError,
            TypeError,
            RecursionError,
        ):
            raise _Unsafe("invalid YAML") from None  # ruamel.yaml does not catch some of Python's own errors
        if node is None:
            return Value({}, Origin(name))
        return _Nodes(name, self.made.left).value(node, 0)

    def _text(self, name: str) -> str:
        self.files += 1
        if self.files > _MOST_FILES:
            raise _Unsafe(f"the folder has more than {_MOST_FILES} files of variables")
        path = self.folder / name
        try:
            if not path.resolve().is_relative_to(self.folder.resolve()):
                raise _Unsafe("a symbolic link that leads out of the folder is not followed")
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise _Unsafe("expected a regular file")
                data = file.read(_LIMIT + 1)
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
            raise _Unsafe(
                f"cannot be read: {getattr(error, 'strerror', None) or 'a loop of links'}"
            ) from None
        if len(data) > _LIMIT:
            raise _Unsafe(f"the file exceeds {_LIMIT // 1024} KiB")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise _Unsafe("not valid UTF-8") from None

    def _files(self, kind: str, name: str) -> list[str]:
        """Return the files with the variables of one host or group, as Ansible does: the first of its names counts."""
        possible = [f"{kind}/{name}{suffix}" for suffix in _SUFFIXES]
        found = [path for path in possible if os.path.lexists(self.folder / path)]
        for other in found[1:]:
            self.made.left.append(Left(Origin(other), name, f"Ansible reads {found[0]} instead"))
        return self._inside(found[0]) if found else []

    def _inside(self, name: str) -> list[str]:
        """Return a file, or what Ansible reads in a folder and those below: no hidden files, and no editor's copies."""
        if not (self.folder / name).is_dir():
            return [name]
        found = list[str]()
        for path in sorted((self.folder / name).iterdir()):
            inside = f"{name}/{path.name}"
            if path.suffix not in _SUFFIXES or path.name.startswith(".") or path.name.endswith("~"):
                continue
            below = path.is_dir() and not path.is_symlink() and inside.count("/") < _DEPTH
            found += self._inside(inside) if below and not path.suffix else [inside]
        return found

    def variables(self, kind: str, name: str) -> Variables:
        """Return what the files of one host or group say. The last one counts."""
        found: Variables = {}
        for file in self._files(kind, name) if _plain(name) else ():
            try:
                found |= dict(_pairs(self.load(file)))
            except _Unsafe as error:
                self.made.left.append(Left(Origin(file), "the whole file", str(error)))
        return found

    # ── groups ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def group(self, name: str, body: Value, depth: int) -> None:
        """Read one group of the inventory, and the groups in it."""
        group = self.groups.setdefault(name, _Group())
        group.depth = max(group.depth, depth)
        parts = dict(_pairs(body))
        for host, own in _pairs(parts.pop("hosts", None)):
            self.made.named.setdefault(host, own.where)
            group.hosts.setdefault(host, {}).update(_pairs(own))
        group.variables.update(_pairs(parts.pop("vars", None)))
        for child, inner in _pairs(parts.pop("children", None)):
            if depth >= _DEPTH:
                self.made.left.append(
                    Left(inner.where, child, f"groups are nested more than {_DEPTH} levels deep")
                )
                continue
            group.children.add(child)
            self.group(child, inner, depth + 1)
        for other, rest in parts.items():
            self.made.left.append(Left(rest.where, other, "expected hosts, vars or children in a group"))

    def merged(self) -> Folder:
        """Give each host its variables, in Ansible's order: those of groups first, inner groups after outer ones."""
        order = sorted(self.groups, key=lambda name: (name != "all", self.groups[name].depth, name))
        files = {name: self.variables("group_vars", name) for name in order}
        for host in self.made.named:
            member = [name for name in order if name == "all" or self._contains(name, host)]
            found: Variables = {}
            for name in member:
                found |= self.groups[name].variables
            for name in member:
                found |= files[name]
            for name in member:
                found |= self.groups[name].hosts.get(host, {})
            self.made.hosts[host] = found | self.variables("host_vars", host)
        self._strays()
        return self.made

    def _contains(self, name: str, host: str) -> bool:
        """Whether the host is in the group, or in a group inside it. Groups may name each other in a circle."""
        seen, waiting = {name}, [name]
        while waiting:
            group = self.groups[waiting.pop()]
            if host in group.hosts:
                return True
            waiting += group.children - seen
            seen |= group.children
        return False

    def _strays(self) -> None:
        """Report files of variables that belong to no host or group of the inventory."""
        for kind, known in (("host_vars", self.made.hosts), ("group_vars", self.groups)):
            folder = self.folder / kind
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if path.stem not in known and path.name not in known and not path.name.startswith("."):
                    why = f"the inventory has no {'host' if kind == 'host_vars' else 'group'} of this name"
                    self.made.left.append(Left(Origin(f"{kind}/{path.name}"), path.stem, why))


class _Nodes:
    """Turn the nodes of one file into values."""

    def __init__(self, file: str, left: list[Left]) -> None:
        self.file = file
        self.left = left
        self.count = 0

    def value(self, node: Any, depth: int) -> Value:  # noqa: ANN401 - ruamel.yaml's nodes have no types
        """Return the value of a node. In a mapping, each value has its own place. Raise _Unsafe if it is too large."""
        self.count += 1
        if self.count > _MOST_NODES or depth > _DEPTH:
            raise _Unsafe("the YAML has too many values, or is nested too deeply")
        where = Origin(self.file, node.start_mark.line + 1)
        tag = str(node.tag)
        if tag not in _CORE:
            what = "an encrypted value (!vault)" if tag == "!vault" else "a value with a YAML tag"
            return Value(None, where, f"{what} is not read")
        if isinstance(node.value, str):
            if _JINJA.search(node.value):
                return Value(None, where, "a Jinja expression is not evaluated")
            return Value(node.value, where) if tag != "tag:yaml.org,2002:null" else Value({}, where)
        if tag == "tag:yaml.org,2002:seq":
            return Value([self.value(item, depth + 1) for item in node.value], where)
        return Value(self._mapping(node, depth), where)

    def _mapping(self, node: Any, depth: int) -> Variables:  # noqa: ANN401 - as above
        made, merged = dict[str, Value](), dict[str, Value]()
        for key, item in node.value:
            name = key.value if isinstance(key.value, str) else ""
            where = Origin(self.file, key.start_mark.line + 1)
            if str(key.tag) == _MERGE:
                merged |= self._merged(self.value(item, depth + 1), where)
                continue
            if not name or _JINJA.search(name):
                self.left.append(Left(where, "a key", "expected a name"))
                continue
            if name in made:
                self.left.append(
                    Left(made[name].where, name, f"given again in line {where.line}, which counts")
                )
            found = self.value(item, depth + 1)
            made[name] = Value(found.raw, where, found.why)
        return merged | made  # the mapping's own keys count, wherever << stands

    def _merged(self, found: Value, where: Origin) -> Variables:
        """Return the keys of the mapping after <<, or of the mappings in a list there, of which earlier ones count."""
        made: Variables = {}
        for each in reversed(found.raw) if isinstance(found.raw, list) else [found]:
            if not isinstance(each.raw, dict):
                self.left.append(Left(where, "<<", each.why or "expected a mapping, or a list of mappings"))
            made |= dict(_pairs(each))
        return made


def _pairs(value: Value | None) -> Iterator[tuple[str, Value]]:
    """Yield the keys and values of a mapping; nothing for anything else."""
    if value is not None and isinstance(value.raw, dict):
        yield from value.raw.items()


def _plain(name: str) -> bool:
    """Whether a name of the inventory can be a file's name."""
    return "/" not in name and "\0" not in name and name not in {"", ".", ".."}
