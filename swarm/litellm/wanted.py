"""models.yaml: the credentials and deployments that the proxy should have."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from swarm.errors import InventoryError
from swarm.inventory.document import Kind, read, short
from swarm.inventory.fields import wrong
from swarm.inventory.inside import Section
from swarm.inventory.report import Problem, failure, problems
from swarm.litellm.environment import ADDRESS
from swarm.litellm.identity import MARK, deployment_id, fingerprint, keyed_fingerprint
from swarm.paths import litellm_dir

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from swarm.litellm.environment import Environment

__all__ = ["Deployment", "ModelsFile", "Wanted", "WantedCredential", "load", "models_file", "resolve"]

KIND = Kind(
    noun="models file",
    expected="the lists credentials and models",
    hint="see litellm/models.yaml in the repository for an example",
    limit=4 * 1024 * 1024,
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_SECRET = re.compile(
    r"api_?key|secret|password|private_key|credentials|(auth|session|ad|access|bearer)_token", re.IGNORECASE
)
_MODEL = re.compile(r"(?P<provider>[A-Za-z0-9_.-]+)/[^\s/][^\s]*")
# Providers that need a key. Without one LiteLLM would send OPENAI_API_KEY, or nothing.
_KEYED = {
    "anthropic",
    "azure",
    "cohere",
    "deepseek",
    "gemini",
    "groq",
    "mistral",
    "openai",
    "openrouter",
    "xai",
    "zai",
}
_OURS = {"id", "db_model", "blocked", MARK}
_REFERENCE = "os.environ/"


def _name(value: str) -> str:
    if not value.strip() or value != value.strip() or not value.isprintable() or len(value) > 200:  # noqa: PLR2004
        raise wrong("expected a name of at most 200 characters, without spaces around it")
    return value


def _variable(value: str) -> str:
    if not _VARIABLE.fullmatch(value):
        raise wrong(
            "expected the name of a variable in litellm/.env, such as OPENAI_API_KEY",
            "the key itself belongs in litellm/.env",
        )
    return value


def _base(value: str) -> str:
    if not ADDRESS.fullmatch(value):
        raise wrong(
            "expected a URL that starts with http:// or https://, without credentials",
            "remove the line for the provider's own address: an empty one would send the key to another place",
        )
    return value


def _model(value: str) -> str:
    if not _MODEL.fullmatch(value):
        raise wrong("expected PROVIDER/MODEL, such as openai/gpt-5-mini")
    return value


def _params(values: dict[str, Any]) -> dict[str, Any]:
    for key, value in values.items():
        if _SECRET.search(key):
            raise wrong(
                f"{key} is a secret", "write it to litellm/.env, and name the variable in a credential"
            )
        if key in {"model", "litellm_credential_name"}:
            raise wrong(f"{key} can't stand here", "use the keys model and credential")
        if value is None or value == "":
            raise wrong(f"{key} has no value", "remove the line for LiteLLM's default")
        if _REFERENCE in json.dumps(value):
            raise wrong(f"{key} refers to a variable of the proxy", "name the variable in a credential's env")
        if key in {"api_base", "base_url"}:
            _base(str(value))
    return values


def _info(values: dict[str, Any]) -> dict[str, Any]:
    if found := _OURS & values.keys():
        raise wrong(f"{min(found)} is set by swarm or LiteLLM", "remove the line")
    return values


Named = Annotated[str, AfterValidator(_name)]
Variable = Annotated[str, AfterValidator(_variable)]


class CredentialEntry(Section):
    """One credential: a name, and the variables of litellm/.env that hold its secrets."""

    name: Named = Field(examples=["openai"])
    key_env: Variable | None = Field(default=None, description="The variable that holds the API key.")
    env: dict[str, Variable] = Field(
        default={}, description="Further secrets: parameter → variable, such as aws_secret_access_key."
    )
    api_base: Annotated[str, AfterValidator(_base)] | None = Field(
        default=None, description="The address of the API, if it is not the provider's own."
    )
    values: Annotated[dict[str, str], AfterValidator(_params)] = Field(
        default={}, description="Further values that are no secrets, such as api_version."
    )
    provider: str | None = Field(default=None, description="LiteLLM's name of the provider, shown in its UI.")
    description: str | None = Field(default=None, description="A remark for people.")
    optional: bool = Field(
        default=False, description="Skip it and its models while one of its variables is not set."
    )

    def variables(self) -> dict[str, str]:
        """Return the variable of each secret parameter."""
        return {**({"api_key": self.key_env} if self.key_env else {}), **self.env}


class ModelEntry(Section):
    """One deployment. Several of one name share the load."""

    name: Named = Field(description="The name by which agents ask for it.", examples=["gpt-mini"])
    model: Annotated[str, AfterValidator(_model)] = Field(
        description="The provider and its model.", examples=["openai/gpt-5-mini"]
    )
    credential: Named | None = Field(default=None, description="The name of a credential of this file.")
    params: Annotated[dict[str, Any], AfterValidator(_params)] = Field(
        default={}, description="Further parameters of LiteLLM, such as rpm or timeout."
    )
    info: Annotated[dict[str, Any], AfterValidator(_info)] = Field(
        default={}, description="Entries of LiteLLM's model_info, such as base_model."
    )


class ModelsFile(Section):
    """models.yaml."""

    credentials: tuple[CredentialEntry, ...] = Field(default=(), description="The keys, by name.")
    models: tuple[ModelEntry, ...] = Field(default=(), description="The deployments.")


@dataclass(frozen=True)
class WantedCredential:
    """A credential with its values. `mark` stands for the values."""

    name: str
    values: Mapping[str, str] = field(repr=False)
    public: Mapping[str, str]
    info: Mapping[str, Any]
    mark: str


@dataclass(frozen=True)
class Deployment:
    """A deployment as it is registered."""

    name: str
    params: Mapping[str, Any]
    info: Mapping[str, Any]
    api_base: str | None = None  # its own, or its credential's

    @property
    def id(self) -> str:
        """The id under which it is registered."""
        return deployment_id(self.name, self.params)

    @property
    def mark(self) -> str:
        """The mark of what is written."""
        return fingerprint(self.name, self.params, self.info)

    @property
    def shown(self) -> str:
        """The provider's model and the credential, for people."""
        credential = self.params.get("litellm_credential_name")
        return str(self.params["model"]) + (f" with {credential}" if credential else "")


@dataclass(frozen=True)
class Wanted:
    """What the proxy should have. `skipped` are names of credentials whose variables are not set, with the reason.

    A `partial` one says nothing about other models and credentials.
    """

    credentials: tuple[WantedCredential, ...]
    deployments: tuple[Deployment, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    partial: bool = False


def models_file() -> Path:
    """Return the path of models.yaml."""
    return litellm_dir() / "models.yaml"


def load(path: Path | None = None) -> ModelsFile:
    """Return the content of models.yaml. Raise InventoryError with file, line and field for what is wrong in it."""
    path = path or models_file()
    try:
        document = read(path, KIND)
    except FileNotFoundError:
        raise InventoryError(
            f"{short(path)} does not exist", "the repository has one to start with"
        ) from None
    values = {key: [] if value is None else value for key, value in document.values.items()}
    try:
        file = ModelsFile.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        found = problems(document, error.errors(include_url=False), ModelsFile)
        raise failure([(document, problem) for problem in found]) from None
    if clashes := list(_clashes(file)):
        raise failure([(document, problem) for problem in clashes])
    return file


def resolve(file: ModelsFile, environment: Environment, path: Path | None = None) -> Wanted:
    """Return what the proxy should have, with the values from litellm/.env.

    Raise InventoryError if a variable is not set, unless its credential is optional. Nothing has been written then.
    """
    document_path = path or models_file()
    credentials, skipped, missing = [], dict[str, str](), []
    for number, entry in enumerate(file.credentials):
        unset = [name for name in entry.variables().values() if not environment.values.get(name, "").strip()]
        if not unset:
            credentials.append(_credential(entry, environment))
        elif entry.optional:
            skipped[entry.name] = f"{unset[0]} is not set"
        else:
            missing += [(number, name) for name in unset]
    if missing:
        document = read(document_path, KIND)
        hint = "write it there, or add optional: true to skip the credential and its models meanwhile"
        raise failure(
            [
                (
                    document,
                    Problem(
                        ("credentials", number, "key_env"), f"{name} is not set in {environment.source}", hint
                    ),
                )
                for number, name in missing
            ]
        )
    bases = {entry.name: entry.api_base for entry in file.credentials}
    kept = [entry for entry in file.models if entry.credential not in skipped]
    return Wanted(tuple(credentials), tuple(_deployment(entry, bases) for entry in kept), skipped)


def _credential(entry: CredentialEntry, environment: Environment) -> WantedCredential:
    public = {**entry.values, **({"api_base": entry.api_base} if entry.api_base else {})}
    secret = {key: environment.values[name].strip() for key, name in entry.variables().items()}
    info = {"custom_llm_provider": entry.provider, "description": entry.description}
    values = {**public, **secret}
    return WantedCredential(
        entry.name, values, public, {key: value for key, value in info.items() if value},
        keyed_fingerprint(environment.fingerprint_key, values),
    )  # fmt: skip


def _deployment(entry: ModelEntry, bases: Mapping[str, str | None]) -> Deployment:
    params = {"model": entry.model, **entry.params}
    if entry.credential:
        params["litellm_credential_name"] = entry.credential
    base = entry.params.get("api_base") or (bases.get(entry.credential) if entry.credential else None)
    return Deployment(entry.name, params, entry.info, base)


def _clashes(file: ModelsFile) -> Iterator[Problem]:
    names: dict[str, int] = {}
    for number, credential in enumerate(file.credentials):
        if credential.name in names:
            yield Problem(
                ("credentials", number, "name"),
                f"{credential.name!r} is the name of two credentials",
                "rename one",
            )
        if not credential.variables():
            yield Problem(
                ("credentials", number), "no variable is named that holds the key", "add key_env: NAME"
            )
        names.setdefault(credential.name, number)
    seen: dict[str, int] = {}
    for number, model in enumerate(file.models):
        yield from _model_clashes(number, model, names)
        known = seen.setdefault(_deployment(model, {}).id, number)
        if known != number:
            yield Problem(
                ("models", number), f"the same deployment as models[{known + 1}]",
                "remove one: a copy makes one rate limit error block both",
            )  # fmt: skip


def _model_clashes(number: int, model: ModelEntry, names: Mapping[str, int]) -> Iterator[Problem]:
    provider = model.model.split("/")[0]
    if model.credential is not None and model.credential not in names:
        yield Problem(
            ("models", number, "credential"), f"there is no credential {model.credential!r}",
            f"choose from: {', '.join(names)}" if names else "add it to the list credentials",
        )  # fmt: skip
    if model.credential is None and provider in _KEYED:
        yield Problem(
            ("models", number), f"{provider} needs a credential",
            "add credential: NAME; without one LiteLLM would send another provider's key",
        )  # fmt: skip
