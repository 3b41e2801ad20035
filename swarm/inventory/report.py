"""Turn pydantic's errors into messages with file, line, field and a hint.

A single problem is one message with its hint. Multiple problems are listed one per line, in the order of the file, so
that they can all be corrected at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import BaseModel, Tag

from swarm.errors import InventoryError
from swarm.inventory.document import short
from swarm.inventory.model import Host

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

    from swarm.inventory.document import Document, Where

__all__ = ["Problem", "failure", "leaves", "problems"]

SHOWN = 40  # characters of a value to show: enough to recognize it
_KEY = (
    "[key]"  # how pydantic marks, at the end of a location, that a mapping's key is wrong and not its value
)
MOST = 20  # problems to list in one report

# The expected kind of value, by the first word of pydantic's error type.
_EXPECTED = {
    "int": "a whole number",
    "bool": "true or false",
    "string": "text",
    "model": "a section with keys",
    "dict": "a section with keys",
    "tuple": "a list",
}
_BOOLEANS = {
    "true": "true",
    "false": "false",
    "yes": "true",
    "on": "true",
    "y": "true",
    "no": "false",
    "off": "false",
    "n": "false",
}


@dataclass(frozen=True)
class Problem:
    """A problem and its location."""

    where: Where
    message: str
    hint: str | None = None

    @property
    def field(self) -> str:
        """The field for messages: vm.ip, openclaw.ssh_keys[2] (counted from 1)."""
        text = ""
        for part in self.where:
            text += (
                f"[{part + 1}]"
                if isinstance(part, int)
                else f".{part if part.isprintable() and len(part) < SHOWN else _brief(part)}"
            )
        return text[1:]

    def at(self, document: Document) -> str:
        """Return "file:line: field: message"."""
        return f"{short(document.path)}:{document.line(self.where)}: {self.field}: {self.message}"


def failure(found: Sequence[tuple[Document, Problem]]) -> InventoryError:
    """Return one error for all problems. There must be at least one."""
    if len(found) == 1:
        document, problem = found[0]
        return InventoryError(problem.at(document), problem.hint)
    found = sorted(found, key=lambda one: (str(one[0].path), one[0].line(one[1].where)))
    lines = [
        f"\n  {problem.at(document)}{f' ({problem.hint})' if problem.hint else ''}"
        for document, problem in found[:MOST]
    ]
    more = f"\n  and {len(found) - MOST} more" if len(found) > MOST else ""
    files = " and ".join(dict.fromkeys(short(document.path) for document, _ in found))
    return InventoryError(f"{len(found)} problems in {files}:{''.join(lines)}{more}")


def problems(
    document: Document, errors: Sequence[ErrorDetails], root: type[BaseModel] = Host
) -> list[Problem]:
    """Convert pydantic's errors about the model `root` to problems.

    A misspelled key is one problem: the key that it stands for is not reported as missing.
    """
    meant: dict[Where, Where | None] = {}
    found = []
    errors = _under_known_keys(errors)
    for error in errors:
        where = error["loc"]
        if error["type"] == "extra_forbidden":
            meant[where] = _meant(where, root)
            found.append(_unknown(where, meant[where], root))
        elif error["type"] != "missing":
            found.append(_wrong(document, error))
    guesses = {guess[:length] for guess in meant.values() if guess for length in range(1, len(guess) + 1)}
    found += [
        _missing(error["loc"], root)
        for error in errors
        if error["type"] == "missing" and error["loc"] not in guesses
    ]
    return [replace(problem, where=_in_file(problem.where)) for problem in found]


def _under_known_keys(errors: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Return the errors without those of values whose key in a mapping is itself an error."""
    unknown = [error["loc"][:-1] for error in errors if error["loc"][-1:] == (_KEY,)]
    return [
        error
        for error in errors
        if error["loc"][-1:] == (_KEY,) or not any(error["loc"][: len(key)] == key for key in unknown)
    ]


def _in_file(where: Where) -> Where:
    """Return a location without the name of an item's form, which pydantic puts after the number of the item."""
    if where[1:2] != ("customize",):
        return where
    return (*where[:3], *where[4:])


def _missing(where: Where, root: type[BaseModel]) -> Problem:
    if _keys(where, root):
        return Problem(where, "this section is missing", "see hosts/demo.yaml for a short example")
    examples = _fields(_model(where[:-1], root))[str(where[-1])].examples or ()
    return Problem(
        where,
        "this key is missing",
        next((f"add it, for example {where[-1]}: {example}" for example in examples), None),
    )


def _wrong(document: Document, error: ErrorDetails) -> Problem:
    where, kind, value, ctx = error["loc"], error["type"], error.get("input"), error.get("ctx", {})
    if kind == "wrong":
        return Problem(where, ctx["message"], ctx["hint"])
    if kind == "literal_error":
        return _not_a_choice(where, re.findall(r"'([^']+)'", ctx["expected"]), value)
    if kind in {"greater_than_equal", "less_than_equal"}:
        bound = f"at least {ctx['ge']}" if "ge" in ctx else f"at most {ctx['le']}"
        return Problem(where, f"expected {bound}, found {_found(value)}")
    expected = _EXPECTED.get(kind.removesuffix("_type").removesuffix("_parsing"))
    if not expected:  # an error type that the model does not use today, or our own words
        text = error["msg"]
        return Problem(where, text if kind in {"item", "value_error"} else text[0].lower() + text[1:])
    # Do not show the value: it could be a private key.
    shown = "" if "ssh_keys" in where else f", found {_found(value)}"
    return Problem(
        where, f"expected {expected}{shown}", _remedy(expected, value, document.plain.get(_in_file(where)))
    )


def _not_a_choice(where: Where, choices: list[str], value: object) -> Problem:
    near = get_close_matches(str(value).lower(), choices, n=1)
    guess = f"did you mean {near[0]}?" if near else None
    if where[-1] == _KEY:
        return Problem(where[:-1], "unknown key", guess or f"known keys: {', '.join(choices)}")
    return Problem(where, f"expected {_either(choices)}, found {_found(value)}", guess)


def _remedy(expected: str, value: object, plain: str | None) -> str | None:
    """Return a hint how to write the value that was probably meant."""
    hint = None
    match expected, value:
        case "text", None if plain == "~":
            hint = f'a bare ~ means null in YAML; put it in quotes: "{plain}"'
        case "text", bool() | int() | float():
            hint = f'put it in quotes: "{plain}"'
        case "a whole number", str() if re.fullmatch(r"[0-9]{1,9}", value):
            hint = f"write it without quotes: {value}"
        case "a whole number", float() if value.is_integer():
            hint = f"write {int(value)}"
        case "true or false", str() if value.lower() in _BOOLEANS:
            hint = (
                f"write {_BOOLEANS[value.lower()]}, without quotes"
                if plain is None
                else f"write {_BOOLEANS[value.lower()]}"
            )
        case "a section with keys", None:
            hint = "indent its keys below it, or remove the line"
        case "a list", str():
            hint = "start each item on its own line with '- '"
    return hint


def _found(value: object) -> str:
    """Describe the value that was found."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {_brief(value)}"
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "a section"
    text = str(value)
    return text if len(text) <= SHOWN else f"a number of {len(text)} digits"


def _brief(text: str) -> str:
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 1] + "…")


def _either(choices: Sequence[str]) -> str:
    return f"{', '.join(choices[:-1])} or {choices[-1]}"


def _unknown(where: Where, guess: Where | None, root: type[BaseModel]) -> Problem:
    if not guess:
        keys = _keys(where[:-1], root)
        return Problem(where, "unknown key", f"known keys: {', '.join(keys)}")
    if guess[:-1] == where[:-1]:
        return Problem(where, "unknown key", f"did you mean {guess[-1]}?")
    return Problem(
        where, "unknown key", f"did you mean {guess[-1]} in the section {'.'.join(map(str, guess[:-1]))}?"
    )


def _meant(where: Where, root: type[BaseModel]) -> Where | None:
    """Return the key that an unknown key probably stands for, or None.

    Recognizes misspelled keys, keys in the wrong section, and prefixed names from Ansible's host_vars, such as
    openclaw_install_mode and vm_virtiofs_tag.
    """
    word = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(where[-1])).lower()).strip(
        "_"
    )
    paths = leaves((), root)
    spellings = {"_".join(path[start:]): path for path in paths for start in range(len(path))}
    here = [path[-1] for path in paths if path[:-1] == where[:-1]]
    if word in here:
        return (*where[:-1], word)
    if where[1:2] == (
        "customize",
    ):  # an item has few keys, and a section's key of that name means something else
        near = get_close_matches(word, _keys(where[:-1], root), n=1)
        return (*where[:-1], near[0]) if near else None
    fitting = [spelling for spelling in spellings if f"_{word}".endswith(f"_{spelling}")]
    if fitting:
        return spellings[max(fitting, key=len)]
    if near := get_close_matches(word, _keys(where[:-1], root), n=1):
        return (*where[:-1], near[0])
    if near := get_close_matches(word, spellings, n=1, cutoff=0.75):
        return spellings[near[0]]
    return None


def leaves(where: tuple[str, ...] = (), root: type[BaseModel] = Host) -> list[tuple[str, ...]]:
    """Return the paths of all keys of the model `root` whose value is not a section."""
    paths: list[tuple[str, ...]] = []
    for key in _keys(where, root):
        paths += leaves((*where, key), root) or [(*where, key)]
    return paths


def _keys(where: Where, root: type[BaseModel]) -> list[str]:
    """Return the keys of a section. Return an empty list if `where` is not a section."""
    model = _model(where, root)
    return [key for key in (_fields(model) if model else ()) if (model, key) != (Host, "name")]


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields of a section by their keys in the file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _model(where: Where, root: type[BaseModel]) -> Any:  # noqa: ANN401 - a class of the model, or None
    """Return the model class of the section `where`, or None if it is not a section.

    Where a list's items have one of several forms, `where` holds the form's name after the number.
    """
    model: Any = root
    forms: dict[str, type[BaseModel]] = {}
    named = False  # whether the next part is a key that the user chose, as in a mapping of names to sections
    for part in where:
        if isinstance(part, int) or named:
            named = False
            continue  # the items of a list or a mapping have the class that was found for it
        if forms:
            model, forms = forms.get(part), {}
        elif field := _fields(model).get(part):
            forms = dict(_forms(field.annotation))
            model = next(iter(forms.values()), None) if len(forms) < 2 else None  # noqa: PLR2004 - a choice
            forms = forms if model is None else {}
            named = get_origin(field.annotation) is dict
        else:
            model = None
        if model is None and not forms:
            break
    return model


def _forms(annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:  # noqa: ANN401 - any type
    """Yield the model classes in a field's type, each with the name of its form, or "" if it has none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield "", annotation
    name = next((str(one.tag) for one in getattr(annotation, "__metadata__", ()) if isinstance(one, Tag)), "")
    for part in get_args(annotation):
        yield from ((name or inner, model) for inner, model in _forms(part))
