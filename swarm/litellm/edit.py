"""Add models to models.yaml and remove them, and keep its comments, order and format."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from swarm.errors import InventoryError, UsageError
from swarm.files import write_atomically
from swarm.inventory.document import short
from swarm.litellm.wanted import load, models_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.litellm.wanted import CredentialEntry, ModelsFile

__all__ = ["add", "remove"]


def add(name: str, model: str, variable: str = "", api_base: str = "", credential: str = "") -> bool:
    """Add a deployment, and a credential for `variable` if the file has none. Return False if the file has it already.

    Raise InventoryError or UsageError; the file is unchanged then.
    """
    before = load()
    known = _credential(before, variable, api_base, credential)
    used = known.name if known else _free_name(before, model) if variable else None
    for entry in before.models:
        if (entry.name, entry.model, entry.credential) == (name, model, used):
            return False
    with _edited() as document:
        if used and not known:
            item = {"name": used, "key_env": variable}
            _list(document, "credentials").append({**item, **({"api_base": api_base} if api_base else {})})
        item = {"name": name, "model": model}
        _list(document, "models").append({**item, **({"credential": used} if used else {})})
    return True


def remove(name: str) -> int:
    """Remove all deployments called `name`. Return how many there were. Raise InventoryError."""
    found = [number for number, entry in enumerate(load().models) if entry.name == name]
    if found:
        with _edited() as document:
            for number in reversed(found):
                del document["models"][number]
            if not document["models"]:
                document[
                    "models"
                ] = []  # the old list would be written with its comments between key and value
    return len(found)


def _credential(file: ModelsFile, variable: str, api_base: str, name: str) -> CredentialEntry | None:
    if name:
        found = next((each for each in file.credentials if each.name == name), None)
        if found is None:
            known = ", ".join(each.name for each in file.credentials) or "none yet"
            raise UsageError(f"models.yaml has no credential {name!r}", f"it has: {known}")
        return found
    fitting = (
        each
        for each in file.credentials
        if variable and each.key_env == variable and (each.api_base or "") == api_base
    )
    return next(fitting, None)


def _free_name(file: ModelsFile, model: str) -> str:
    """Return a name for a new credential: the provider's, with a number if it is taken."""
    provider, taken = model.split("/", maxsplit=1)[0], {each.name for each in file.credentials}
    names = (provider if number == 1 else f"{provider}-{number}" for number in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def _list(document: Any, key: str) -> Any:  # noqa: ANN401 - ruamel.yaml's own types
    if document.get(key) is None:
        document[key] = []
    return document[key]


@contextmanager
def _edited() -> Iterator[Any]:
    """Yield the file's content, and write it after the block. If the result is invalid, the file stays as it was."""
    from ruamel.yaml import YAML

    path = models_file()
    old = path.read_text(encoding="utf-8")
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1 << 16  # long lines stay as they are
    yaml.indent(mapping=2, sequence=4, offset=2)
    document = yaml.load(old)
    yield document
    new, mode = io.StringIO(), path.stat().st_mode & 0o777
    yaml.dump(document, new)
    write_atomically(path, new.getvalue(), mode=mode)
    try:
        load()
    except InventoryError as error:
        write_atomically(path, old, mode=mode)
        _, _, reason = error.message.partition(": ")
        raise InventoryError(f"{short(path)} is unchanged: {reason}", error.hint) from None
