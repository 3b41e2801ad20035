"""Make litellm/.env with its generated secrets, and keep it private."""

from __future__ import annotations

import re
import secrets
import stat
from io import StringIO
from typing import TYPE_CHECKING

from swarm.errors import InventoryError, Refused, Unfit
from swarm.files import write_atomically
from swarm.inventory.document import short
from swarm.litellm import environment
from swarm.litellm.environment import MASTER, PASSWORD, SALT, Environment
from swarm.paths import litellm_dir

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["PASSWORD", "PROJECT", "ensure"]

PROJECT = "COMPOSE_PROJECT_NAME"
_DEFAULT_PROJECT = (
    "swarm-litellm"  # Compose's own default is the folder's name, which another project may have
)
_PLAIN = re.compile(r"[A-Za-z0-9._~-]+")  # what a URL takes unquoted
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def ensure(database: str = "", *, removal: str = "") -> list[str]:
    """Make litellm/.env on first use, add missing secrets, and restrict its permissions to the owner.

    `database` names the existing database, such as 'the volume litellm-db', or is empty if there is none. `removal` is
    the command that deletes it. Return a sentence for each change. Raise Refused if the database exists and the
    secret that it needs is missing, InventoryError if the file can't be parsed, no request can be made with it, or the
    password can't be that of a new database.
    """
    path = environment.env_file().resolve()
    if not path.parent.is_dir():
        raise Unfit(f"{short(path.parent)} does not exist", "create it, or correct SWARM_LITELLM")
    fresh = not path.exists()
    given = Environment({}, short(path)) if fresh else environment.read()
    given.check()
    values = given.values
    if database:
        _guard(path, values, database, removal, fresh=fresh)
    else:
        _check_password(given)
    missing = {name: value for name, value in _generated().items() if not values.get(name)}
    done = []
    if missing:
        text = _template() if fresh else path.read_text(encoding="utf-8")
        write_atomically(path, _filled(text, missing), mode=0o600)
        names = ", ".join(name for name in missing if name != PROJECT)
        done.append(f"{'made' if fresh else 'completed'} {short(path)}: {names or PROJECT}")
        if SALT in missing:
            done.append(f"back {short(path)} up: without its {SALT} the database can't be read")
    elif path.stat().st_mode & _OTHERS:
        path.chmod(0o600)
        done.append(f"{short(path)} was readable by other users; changed its mode to 0600")
    return done


def _generated() -> dict[str, str]:
    return {
        PROJECT: _DEFAULT_PROJECT,
        MASTER: f"sk-{secrets.token_hex(32)}",
        SALT: f"sk-{secrets.token_hex(32)}",
        PASSWORD: secrets.token_hex(24),
    }


def _guard(path: Path, values: Mapping[str, str], database: str, removal: str, *, fresh: bool) -> None:
    """Raise Refused if a new salt key or password would not fit the existing database."""
    for name, use in ((SALT, "decrypts its rows"), (PASSWORD, "opens it")):
        if not values.get(name):
            where = f"{short(path)} does not exist" if fresh else f"{name} is not set in {short(path)}"
            raise Refused(
                f"{database} exists, but {where}: only its own {name} {use}",
                f"restore {short(path)} from a backup; to give up every model, credential and key in the database: "
                f"{removal}",
            )


def _check_password(given: Environment) -> None:
    """Raise InventoryError for a password that can't be a part of the database's address as it is."""
    password = given.values.get(PASSWORD)
    if password and not _PLAIN.fullmatch(password):
        raise InventoryError(
            f"{given.where(PASSWORD)}: {PASSWORD} can hold only letters and digits",
            "remove the line, and ./inv litellm.up makes a password",
        )


def _template() -> str:
    try:
        return (litellm_dir() / ".env.example").read_text(encoding="utf-8")
    except FileNotFoundError:  # SWARM_LITELLM is a folder of the user's own
        return ""


def _filled(text: str, values: dict[str, str]) -> str:
    """Return the text of a .env file with `values`: in place where the name has no value, else at the end."""
    from dotenv.parser import parse_stream

    left, parts = dict(values), []
    for binding in parse_stream(StringIO(text)):
        written = binding.original.string
        if binding.key in values:
            # What precedes the assignment are blank lines. A repeated name must not undo the value either.
            lead = written[: len(written) - len(written.lstrip())]
            written = f"{lead}{binding.key}={values[binding.key]}\n"
            left.pop(binding.key, None)
        parts.append(written)
    body = "".join(parts)
    if body and not body.endswith("\n"):
        body += "\n"
    return body + "".join(f"{name}={value}\n" for name, value in left.items())
