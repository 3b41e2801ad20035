"""Read a YAML file, such as a host file, into plain values and record the line of each.

The file is read as YAML 1.2 with the core schema. A MAC address such as 52:54:00:01:00:11 therefore stays text
(YAML 1.1 reads it as a base 60 number), and so does `no`. Features that host files do not need are refused: aliases
(nine lines can expand to billions of values), tags, multiple documents and duplicate keys.
"""

from __future__ import annotations

import math
import re
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from swarm.errors import InventoryError
from swarm.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    # ruamel.yaml's events declare their slots, but no types.
    Event = Any

__all__ = ["HOST_FILE", "Document", "Kind", "Where", "read", "short"]

Where = tuple[str | int, ...]  # a path of keys and list indexes from the root

DEPTH = 12  # levels; the sections of a host file have three

# The core schema (https://yaml.org/spec/1.2.2/#1032-tag-resolution) without .inf and .nan, which no key accepts.
_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]{1,300}|0o[0-7]{1,300}|0x[0-9a-fA-F]{1,300}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INVISIBLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)  # characters that YAML does not allow (the same, 5.1)

# Part of ruamel.yaml's message → (our message, hint, whether to report the line where the construct starts instead of
# the line where parsing failed).
_MESSAGES: tuple[tuple[str, str, str | None, bool], ...] = (
    (
        "while scanning a quoted scalar: found unexpected",
        "this quote is not closed",
        "close it on the same line",
        True,
    ),
    ("found character '\\t'", "found a tab where YAML requires spaces", "indent with spaces", False),
    (
        "found character",
        "an unquoted value cannot start with this character",
        "put the value in quotes",
        False,
    ),
    (
        "mapping values are not allowed here",
        "unexpected ':'",
        (
            "quote a value that contains ': ', align the keys of a section, "
            "and check for a missing ':' in the line above"
        ),
        False,
    ),
    (
        "while parsing a flow sequence",
        "the list that starts with '[' here is not closed",
        "put text that starts with [ in quotes",
        True,
    ),
    (
        "while parsing a flow mapping",
        "the '{' here is not closed",
        "put text that starts with { in quotes",
        True,
    ),
    (
        "expected <block end>",
        "this does not match the YAML structure before it",
        "align the keys of a section; quote either the whole value or none of it",
        False,
    ),
    ("could not find expected ':'", "expected ':' after the key", "write key: value", True),
    (
        "found unknown escape character",
        "unknown escape sequence in double quotes",
        "use single quotes, in which \\ is an ordinary character",
        False,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a file is, in words for messages, and the most bytes that it may have."""

    noun: str
    expected: str
    hint: str
    limit: int


HOST_FILE = Kind(
    noun="host file",
    expected="the sections hypervisor, vm, guest and openclaw",
    hint="see hosts/demo.yaml for a short example",
    limit=256 * 1024,  # a typical host file has 2 000 bytes, and parsing 500 000 takes a second
)


@dataclass(frozen=True)
class Document:
    """A file's values, the line of each (from 1), and the source text of plain scalars."""

    path: Path
    values: Any
    lines: dict[Where, int] = field(default_factory=dict)
    plain: dict[Where, str] = field(default_factory=dict)

    def line(self, where: Where) -> int:
        """Return the line of the deepest part of `where` that exists in the file."""
        while where not in self.lines and where:
            where = where[:-1]
        return self.lines.get(where, 1)


def short(path: Path) -> str:
    """Return the path for messages: hosts/NAME.yaml or litellm/NAME.yaml if it is in the project."""
    folder = path.parent.name
    return f"{folder}/{path.name}" if path.parent in {ROOT / "hosts", ROOT / "litellm"} else str(path)


def read(path: Path, kind: Kind = HOST_FILE) -> Document:
    """Return the content of a YAML file.

    Raise FileNotFoundError if it does not exist, and InventoryError with file and line if it is not a valid mapping.
    """
    text = _text(path, kind)
    if not text.strip():
        raise InventoryError(f"{short(path)}:1: the file is empty", kind.hint)
    document = _Reader(path, kind).document(text)
    if not isinstance(document.values, dict):
        raise InventoryError(
            f"{short(path)}:{document.line(())}: expected {kind.expected}",
            kind.hint,
        )
    return document


def _text(path: Path, kind: Kind) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InventoryError(
                f"{short(path)}: expected a regular file, found {'a directory' if path.is_dir() else 'a special file'}",
                "move it out of the hosts directory",
            )
        with path.open("rb") as file:
            data = file.read(kind.limit + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InventoryError(f"{short(path)}: cannot be read: {error.strerror}") from None
    if len(data) > kind.limit:
        raise InventoryError(
            f"{short(path)}: the file exceeds {kind.limit // 1024} KiB, the limit for a {kind.noun}"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InventoryError(f"{short(path)}:{line}: not valid UTF-8", "save the file as UTF-8") from None
    if match := _INVISIBLE.search(text):
        line = text.count("\n", 0, match.start()) + 1
        raise InventoryError(
            f"{short(path)}:{line}: YAML does not allow the character U+{ord(match[0]):04X}",
            "delete it",
        )
    return text


def _parser() -> tuple[Callable[[str], Iterator[Event]], type[Exception], type[Exception]]:
    """Return what turns text into events, and its errors: those with a position, and all.

    LiteLLM's image, in which litellm-init runs, has PyYAML, from which ruamel.yaml descends: both have the same events.
    """
    try:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError
    except ModuleNotFoundError:
        import yaml

        return (lambda text: yaml.parse(text, yaml.SafeLoader)), yaml.MarkedYAMLError, yaml.YAMLError
    return YAML(typ="safe", pure=True).parse, MarkedYAMLError, YAMLError


class _Reader:
    """Build a Document in one pass over the parser's events."""

    def __init__(self, path: Path, kind: Kind) -> None:
        self.path = path
        self.noun = kind.noun
        self.lines: dict[Where, int] = {}
        self.plain: dict[Where, str] = {}

    def document(self, text: str) -> Document:
        # Imported here because it is slow, and commands without a host file do not need it.
        parse, marked, general = _parser()
        events = parse(text)
        try:
            values = None
            for event in events:
                kind = type(event).__name__
                if kind == "DocumentStartEvent":
                    if self.lines:
                        raise self.wrong(
                            event,
                            f"a second YAML document starts here, but a {self.noun} holds only one",
                            "remove the line ---",
                        )
                    self.lines[()] = event.start_mark.line + 1
                elif kind not in {"StreamStartEvent", "StreamEndEvent", "DocumentEndEvent"}:
                    self.lines[()] = event.start_mark.line + 1
                    values = self.node(event, events, ())
        except marked as error:
            raise self.explain(error) from None
        except (
            general,
            ValueError,
            ArithmeticError,
            LookupError,
            AssertionError,
            AttributeError,
            TypeError,
        ):
            # ruamel.yaml does not catch some of Python's own errors, such as OverflowError for "\UFFFFFFFF".
            line = max(self.lines.values(), default=1)  # of the last value that was read
            raise InventoryError(
                f"{short(self.path)}:{line}: invalid YAML", "check this line and the next"
            ) from None
        return Document(self.path, values, self.lines, self.plain)

    def node(self, event: Event, events: Iterator[Event], where: Where) -> Any:  # noqa: ANN401 - any YAML value
        """Return the value that starts with `event`, and consume its other events from `events`."""
        self.refuse(event, where)
        kind = type(event).__name__
        if kind == "ScalarEvent":
            return self.scalar(event, where)
        if kind == "SequenceStartEvent":
            items: list[Any] = []
            while type(event := next(events)).__name__ != "SequenceEndEvent":
                self.lines[*where, len(items)] = event.start_mark.line + 1
                items.append(self.node(event, events, (*where, len(items))))
            return items
        mapping: dict[str, Any] = {}
        while type(event := next(events)).__name__ != "MappingEndEvent":
            self.refuse(event, where)
            if type(event).__name__ != "ScalarEvent" or not event.value:
                raise self.wrong(event, "expected a key before ':'", None)
            key = event.value
            here = (*where, key)
            if key in mapping:
                raise self.wrong(
                    event,
                    f"{'.'.join(map(str, here))}: duplicate key, first set in line {self.lines[here]}",
                    "remove one of the two",
                )
            self.lines[here] = event.start_mark.line + 1
            mapping[key] = self.node(next(events), events, here)
        return mapping

    def refuse(self, event: Event, where: Where) -> None:
        """Raise InventoryError for YAML features that host files do not need."""
        if len(where) > DEPTH:
            raise self.wrong(event, f"sections are nested more than {DEPTH} levels deep")
        if type(event).__name__ == "AliasEvent":
            raise self.wrong(
                event,
                f"{self.noun}s cannot contain aliases, such as *{event.anchor}",
                "write the value itself, or put text that starts with * in quotes",
            )
        if event.anchor is not None:
            raise self.wrong(
                event,
                f"{self.noun}s cannot contain anchors, such as &{event.anchor}",
                "remove it, or put text that starts with & in quotes",
            )
        if event.tag is not None:
            raise self.wrong(
                event,
                f"{self.noun}s cannot contain tags, which start with !",
                "remove it, or put text that starts with ! in quotes",
            )

    def scalar(self, event: Event, where: Where) -> str | float | bool | None:
        """Return the value of a scalar according to the core schema."""
        text: str = event.value
        if event.style:  # quotes or a block: always text
            try:
                text.encode()
            except UnicodeEncodeError:
                raise self.wrong(
                    event, "the escape sequence is half of a surrogate pair", "write the character itself"
                ) from None
            return text
        self.plain[where] = text
        if text in _NULL:
            return None
        if text in _BOOL:
            return _BOOL[text]
        if _INT.fullmatch(text):
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
            return number
        return text

    def wrong(self, event: Event, message: str, hint: str | None = None) -> InventoryError:
        """Return an error with the line where `event` starts."""
        return InventoryError(f"{short(self.path)}:{event.start_mark.line + 1}: {message}", hint)

    def explain(self, error: Any) -> InventoryError:  # noqa: ANN401 - ruamel.yaml's error has untyped attributes
        """Translate an error of ruamel.yaml, with the line that needs the correction."""
        original = f"{error.context}: {error.problem}" if error.context else str(error.problem)
        message, hint, opening = (
            f"invalid YAML: {error.problem}",
            "check the indentation and quotes of this line and the line above",
            False,
        )
        for part, replacement, advice, at_opening in _MESSAGES:
            if part in original:
                message, hint, opening = replacement, advice or hint, at_opening
                break
        mark = (error.context_mark if opening else None) or error.problem_mark or error.context_mark
        return InventoryError(f"{short(self.path)}:{mark.line + 1 if mark else 1}: {message}", hint)
