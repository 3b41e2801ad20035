"""Types of text that must have a certain form. Their messages say which, and pydantic's own would show a pattern."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema
from pydantic_core.core_schema import no_info_after_validator_function

from swarm.inventory.fields import as_text, wrong

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

__all__ = [
    "Account",
    "Command",
    "GitAddress",
    "LocalFile",
    "LocalFolder",
    "NumberOrText",
    "RepositoryText",
    "RepositoryWord",
    "Shape",
    "Variable",
    "Word",
    "WordList",
    "names_server",
]

_PRINTED = r"[^\s\x00-\x1f\x7f]+"  # for editors; isprintable() excludes more
# What swarm replaces: the ID and the codename of the guest's system, and the release line of Node.
_PLACES = re.compile(r"\{(id|codename|major)\}")


@dataclass(frozen=True)
class Shape:
    """Marks a str, in Annotated, that matches `pattern` as a whole. `expected` completes the message "expected …"."""

    pattern: str
    expected: str
    hint: str | None = None

    def check(self, value: str) -> str:
        """Return the value. Raise the error that says what is expected."""
        if not re.fullmatch(self.pattern, value):
            raise wrong(f"expected {self.expected}", self.hint)
        return value

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, _: CoreSchema, __: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{self.pattern}$"}


def _word(value: str) -> str:
    if not value or not value.isprintable() or any(character.isspace() for character in value):
        raise wrong("expected text without spaces, line breaks or invisible characters")
    return value


def _address(value: str) -> str:
    if not value or not value.isprintable() or value.startswith("-"):
        raise wrong("expected a URL or a path without invisible characters, not starting with a hyphen")
    return value


def _repository(value: str) -> str:
    _word(value)
    if set("{}") & set(_PLACES.sub("", value)):
        raise wrong("expected no braces other than in {id}, {codename} and {major}")
    return value


def _words(value: str) -> str:
    if not value.isprintable() or value != " ".join(value.split()):
        raise wrong("expected words that are separated by single spaces, such as 'main contrib'")
    return value


def _number_or_text(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise wrong("expected a whole number or text")
    if isinstance(value, str) and (not value or not value.isprintable()):
        raise wrong("expected text without line breaks, tabs or other invisible characters")
    return value


def _file(value: Path, kind: str = "file") -> Path:
    if value == Path() or not str(value).isprintable():
        raise wrong(f"expected the path of a {kind}, without invisible characters")
    return value


def _folder(value: Path) -> Path:
    return _file(value, "folder")


def names_server(url: str, host: re.Pattern[str] | None = None) -> bool:
    """Whether a URL has a host, one like `host` if that is given, and a port that can be one."""
    try:
        parts = urlsplit(url)
        name, port = parts.hostname or "", parts.port
    except ValueError:  # a port or an IPv6 address that is none
        return False
    return bool(name) and port != 0 and (":" in name or not host or bool(host.fullmatch(name)))


Account = Annotated[
    str,
    Shape(
        r"[a-z_][a-z0-9_-]{0,31}",
        "the name of an account: at most 32 lowercase letters, digits, hyphens and _, not starting with a digit",
    ),
]
Word = Annotated[
    str,
    Shape(
        r"[A-Za-z0-9][A-Za-z0-9._/+-]*",
        "a name of letters, digits and . _ / + -, starting with a letter or a digit",
    ),
]
Variable = Annotated[
    str,
    Shape(
        r"[A-Z_][A-Z0-9_]*",
        "the name of an environment variable in capital letters, such as TOKEN",
        "write the name of the variable, not its value",
    ),
]
Command = Annotated[str, Shape(r"[\s\S]+", "a shell command, found empty text")]
RepositoryWord = Annotated[str, AfterValidator(_word), as_text(_PRINTED)]
RepositoryText = Annotated[str, AfterValidator(_repository), as_text(_PRINTED)]
GitAddress = Annotated[str, AfterValidator(_address), as_text("[^-].*")]
WordList = Annotated[str, AfterValidator(_words), as_text(r"([^\s]+( [^\s]+)*)?")]
NumberOrText = Annotated[
    int | str,
    BeforeValidator(_number_or_text),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string"}]}),
]
LocalFile = Annotated[Path, AfterValidator(_file)]
LocalFolder = Annotated[Path, AfterValidator(_folder)]
