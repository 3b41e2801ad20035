"""The file litellm/.env: the keys and the address of the proxy, as Docker Compose reads it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from swarm.errors import InventoryError, Unfit
from swarm.inventory.document import short
from swarm.paths import litellm_dir

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from dotenv.parser import Binding

__all__ = ["ADDRESS", "MASTER", "PASSWORD", "PORT", "SALT", "Environment", "env_file", "expanded", "read"]

MASTER, SALT, PASSWORD = "LITELLM_MASTER_KEY", "LITELLM_SALT_KEY", "LITELLM_DB_PASSWORD"
PORT = 18804  # where the agents of the old scripts already look for the proxy
ADDRESS = re.compile(r"https?://[^\s@/?#]+([/?#]\S*)?")  # without credentials; a path may hold an @
_KEY = re.compile(r"[!-~]([ -~]*[!-~])?")  # what both an HTTP header and LiteLLM take
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?[\w.\[\]-]+\s*=(?P<space>[^\S\n]*)(?P<value>.*)", re.DOTALL)
_QUOTED = re.compile(r"""(['"])((?:\\.|(?!\1)[^\\])*)\1""", re.DOTALL)
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_DISPUTED = {
    "'": {r"\\"},
    '"': {r"\'", r"\$", r"\0"},
}  # what only one of the readers replaces, by the quotes around it
_LIMIT = 64 * 1024  # bytes; a key has about 100
_PUBLIC = {"LITELLM_URL", "LITELLM_BIND", "LITELLM_PORT", "LITELLM_IMAGE", "LITELLM_POSTGRES_IMAGE"}
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - a part of every address of its kind
_SHORT = 8  # characters; a shorter value is no secret, and masking it would mutilate ordinary words


@dataclass(frozen=True)
class Environment:
    """The variables of litellm/.env, or of the process inside a container. Its repr shows no value.

    `lines` are the lines of the file that set them.
    """

    values: Mapping[str, str] = field(repr=False)
    source: str
    lines: Mapping[str, int] = field(default_factory=dict, repr=False)

    def check(self) -> None:
        """Raise InventoryError if no request can be made with the master key or LITELLM_URL."""
        key, address = self.values.get(MASTER), self.values.get("LITELLM_URL")
        if key and not _KEY.fullmatch(key):
            raise InventoryError(
                f"{self.where(MASTER)}: {MASTER} has a character that a key in an HTTP request can't have",
                "use letters, digits, - and _, such as sk-…, then ./inv litellm.up",
            )
        if address and not ADDRESS.fullmatch(address):
            raise InventoryError(
                f"{self.where('LITELLM_URL')}: LITELLM_URL must start with http:// or https://, "
                "and hold no user name, password or space",
                "the master key is all that LiteLLM asks for",
            )

    @property
    def url(self) -> str:
        """Where the proxy answers: LITELLM_URL, or else the port and the address that Compose publishes.

        Raise InventoryError as check() does.
        """
        self.check()
        if given := self.values.get("LITELLM_URL"):
            return given.rstrip("/")
        address = _LOOPBACK.get(self.bind, self.bind)
        host = f"[{address}]" if ":" in address else address
        return f"http://{host}:{self.values.get('LITELLM_PORT') or PORT}"

    @property
    def bind(self) -> str:
        """The address at which the proxy listens, without the brackets that Docker wants around an IPv6 address."""
        return (self.values.get("LITELLM_BIND") or "127.0.0.1").strip("[]")

    @property
    def master_key(self) -> str:
        """The proxy's master key. Raise Unfit if there is none, InventoryError as check() does."""
        self.check()
        return self._required(MASTER)

    @property
    def fingerprint_key(self) -> bytes:
        """The key of fingerprints: the salt key, which never changes. Raise Unfit if there is none."""
        return self._required(SALT).encode()

    @property
    def secrets(self) -> list[str]:
        """Every value that must not appear in a message, the longest first."""
        found = {value for name, value in self.values.items() if not _public(name) and len(value) >= _SHORT}
        return sorted(found, key=len, reverse=True)

    def where(self, name: str) -> str:
        """Return the file and the line of a variable, for messages."""
        return f"{self.source}:{self.lines[name]}" if name in self.lines else self.source

    def _required(self, name: str) -> str:
        if value := self.values.get(name):
            return value
        raise Unfit(f"{name} is not set in {self.source}", f"add the line {name}=…")


def _public(name: str) -> bool:
    """Whether a variable holds no secret: where the proxy is, what it is made of, and how Compose works."""
    return name in _PUBLIC or name.startswith("COMPOSE_")


def env_file() -> Path:
    """Return the path of LiteLLM's .env."""
    return litellm_dir() / ".env"


def read() -> Environment:
    """Return the variables of litellm/.env, or where it does not exist, those of this process.

    Raise Unfit if neither has a master key, InventoryError if the file can't be parsed.
    """
    path = env_file()
    try:
        found = dict(_bindings(path))
    except FileNotFoundError:
        if os.environ.get(MASTER):
            return Environment(dict(os.environ), "the environment")
        raise Unfit(f"{short(path)} does not exist", "./inv litellm.up makes it") from None
    values = {name: binding.value or "" for name, binding in found.items()}
    return Environment(values, short(path), {name: _line(binding) for name, binding in found.items()})


def expanded(*, old: bool) -> dict[str, int]:
    """Return the lines of the variables in litellm/.env whose $ Compose replaces, and `read` does not.

    docker-compose 1.29 (`old`) replaces ${NAME}, in quotes too. Later ones replace $NAME as well, reduce $$ to $ and
    refuse any other $, but take text in single quotes literally. Raise InventoryError if the file can't be parsed.
    """
    from dotenv.variables import Variable, parse_variables

    found: dict[str, int] = {}
    for name, binding in _bindings(env_file()):
        value = binding.value or ""
        quoted = binding.original.string.partition("=")[2].lstrip().startswith("'")
        if old:
            replaced = any(isinstance(part, Variable) for part in parse_variables(value))
        else:
            replaced = "$" in value and not quoted
        found.pop(name, None)  # of a repeated name the last value counts
        if replaced:
            found[name] = _line(binding)
    return found


def _bindings(path: Path) -> Iterator[tuple[str, Binding]]:
    """Yield each assignment of a .env file with its name. Raise InventoryError, or FileNotFoundError."""
    from io import StringIO

    from dotenv.parser import parse_stream

    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LIMIT + 1)
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not valid UTF-8"
        raise InventoryError(f"{short(path)}: cannot be read: {reason}") from None
    if len(text) > _LIMIT:
        raise InventoryError(
            f"{short(path)}: the file exceeds {_LIMIT // 1024} KiB, the limit for a .env file"
        )
    for binding in parse_stream(StringIO(text)):
        if binding.error:
            raise InventoryError(
                f"{short(path)}:{_line(binding)}: expected NAME=value", "put the value in single quotes"
            )
        if binding.key is not None:
            if disputed := _disputed(binding):
                raise InventoryError(f"{short(path)}:{_line(binding)}: {disputed[0]}", disputed[1])
            yield binding.key, binding


def _disputed(binding: Binding) -> tuple[str, str] | None:
    """Return why swarm and Docker Compose read an assignment differently, with a hint, or None if they do not.

    The salt key and the database's password are left alone, because what Compose has made of them is in use.
    """
    match, name = _ASSIGNMENT.match(binding.original.string), binding.key
    if not match:
        return "expected NAME=value", "remove the line if the variable has no value"
    if name in {SALT, PASSWORD}:
        return None
    text = match["value"]
    if match["space"] and text.startswith("#"):
        return f"Docker Compose would take the comment for the value of {name}", "give it a line of its own"
    if quoted := _QUOTED.match(text):
        if _DISPUTED[quoted[1]].intersection(_ESCAPED.findall(quoted[2])):
            return f"Docker Compose would read the backslash in {name} differently", "use another value"
    elif text.partition("\n")[0].partition(" #")[0].rstrip() != binding.value:
        return f"Docker Compose would take the comment for a part of {name}", "put a space before the #"
    return None


def _line(binding: Binding) -> int:
    """Return the line of an assignment, which blank lines may precede."""
    written = binding.original.string
    return binding.original.line + written[: len(written) - len(written.lstrip())].count("\n")
