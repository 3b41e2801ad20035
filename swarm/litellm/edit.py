"""Add models to models.yaml and remove them, and keep its comments, order and format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swarm.errors import InventoryError, UsageError
from swarm.inventory.document import short
from swarm.inventory.roundtrip import edited
from swarm.litellm.wanted import load, models_file

if TYPE_CHECKING:
    from swarm.litellm.wanted import CredentialEntry, ModelsFile

__all__ = ["add", "remove"]


def add(name: str, model: str, variable: str = "", api_base: str = "", credential: str = "") -> bool:
    """Add a deployment, and a credential for `variable` if the file has none. Return False if the file has it already.

    Raise InventoryError or UsageError; the file is unchanged then.
    """
    before = load()
    known = _credential(before, variable, api_base, credential)
    free = _free_name(before, model) if variable else None
    used = known.name if known else free
    brought = known.api_base if known else api_base if free else None
    own = "" if api_base == brought else api_base  # an address that its credential does not bring along
    for entry in before.models:
        same = (entry.name, entry.model, entry.credential) == (name, model, used)
        if same and (not own or entry.params.get("api_base") == own):
            return False
    with edited(models_file(), _check) as document:
        if used and not known:
            item = {"name": used, "key_env": variable}
            _list(document, "credentials").append({**item, **({"api_base": api_base} if api_base else {})})
        model_item: dict[str, Any] = {"name": name, "model": model}
        model_item |= {"credential": used} if used else {}
        model_item |= {"params": {"api_base": own}} if own else {}
        _list(document, "models").append(model_item)
    return True


def remove(name: str) -> int:
    """Remove all deployments called `name`. Return how many there were. Raise InventoryError."""
    found = [number for number, entry in enumerate(load().models) if entry.name == name]
    if found:
        with edited(models_file(), _check) as document:
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
        if variable and variable != found.key_env:
            uses = f"which uses {found.key_env}" if found.key_env else "which has no key_env"
            raise UsageError(
                f"--key-env {variable} does not fit the credential {name!r}, {uses}",
                "leave out --key-env, or leave out --credential to use or make one with this variable",
            )
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


def _check() -> None:
    try:
        load()
    except InventoryError as error:
        _, _, reason = error.message.partition(": ")
        raise InventoryError(f"{short(models_file())} is unchanged: {reason}", error.hint) from None
