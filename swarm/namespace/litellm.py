"""The commands about LiteLLM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.collection import Collection

from swarm.front.task import task
from swarm.namespace.words import JSON, PLAN, TIMEOUT, YES

if TYPE_CHECKING:
    from invoke.context import Context

__all__ = ["collection"]

_NATIVE = {"native": "without Docker: as services of this user"}


@task(name="up", help={**_NATIVE, **TIMEOUT, **JSON})
def up(_: Context, native: bool = False, timeout: float = 300, json: bool = False) -> int:
    """Start LiteLLM and its database, and wait until it is ready. The first run makes litellm/.env."""
    from swarm.commands import litellm as commands

    return commands.up(native=native, limit=timeout, as_json=json)


@task(name="down", help={**_NATIVE, **JSON})
def down(_: Context, native: bool = False, json: bool = False) -> int:
    """Stop LiteLLM. The database is kept."""
    from swarm.commands import litellm as commands

    return commands.down(native=native, as_json=json)


@task(
    name="logs",
    help={**_NATIVE, "follow": "keep showing new output", "lines": "how many lines of each log to show"},
)
def logs(_: Context, native: bool = False, follow: bool = False, lines: int = 100) -> int:
    """Show the logs of LiteLLM and its database."""
    from swarm.commands import litellm as commands

    return commands.logs(native=native, follow=follow, lines=lines)


@task(name="status", default=True, help=JSON)
def status(_: Context, json: bool = False) -> int:
    """Show what runs, and whether LiteLLM is ready. Exit code 1: it is not."""
    from swarm.commands import litellm as commands

    return commands.status(as_json=json)


@task(name="init", help={**PLAN, **YES, "prune": "also remove what models.yaml no longer names"})
def init(_: Context, plan: bool = False, prune: bool = False, yes: bool = False, json: bool = False) -> int:
    """Register the credentials and models of litellm/models.yaml."""
    from swarm.commands import models as commands

    return commands.init(plan_only=plan, prune=prune, yes=yes, as_json=json)


@task(name="models", help=JSON)
def models(_: Context, json: bool = False) -> int:
    """List the models that LiteLLM has."""
    from swarm.commands import models as commands

    return commands.listing(as_json=json)


@task(
    name="add",
    positional=["name", "model"],
    help={
        **YES,
        **JSON,
        "name": "the name by which agents ask for it",
        "model": "the provider and its model, such as openai/gpt-5-mini",
        "key-env": "the variable in litellm/.env that holds the key",
        "api-base": "the address of the API, if it is not the provider's own",
        "credential": "use this credential of models.yaml",
    },
)
def add(
    _: Context,
    name: str,
    model: str,
    key_env: str = "",
    api_base: str = "",
    credential: str = "",
    yes: bool = False,
    json: bool = False,
) -> int:
    """Add a model to litellm/models.yaml, and register it."""
    from swarm.commands import models as commands

    return commands.add(name, model, key_env, api_base, credential, yes=yes, as_json=json)


@task(name="remove", positional=["name"], help={**PLAN, **YES, "name": "the model's name"})
def remove(_: Context, name: str, plan: bool = False, yes: bool = False, json: bool = False) -> int:
    """Remove a model from litellm/models.yaml and from LiteLLM's database."""
    from swarm.commands import models as commands

    return commands.remove(name, plan_only=plan, yes=yes, as_json=json)


@task(name="dedup", help={**YES, **JSON, "dry-run": "only show what would be deleted"})
def dedup(_: Context, dry_run: bool = False, yes: bool = False, json: bool = False) -> int:
    """Delete copies of models from LiteLLM's database."""
    from swarm.commands import models as commands

    return commands.dedup(dry_run=dry_run, yes=yes, as_json=json)


@task(name="health", help={**JSON, "grace": "seconds for which something must be wrong before it counts"})
def health(_: Context, grace: float = 60, json: bool = False) -> int:
    """Check LiteLLM, restart it if it is dead, and remove copies of models. DEDUP=0 keeps them."""
    from swarm.commands import health as commands

    return commands.health(grace=grace, as_json=json)


@task(
    name="doctor",
    positional=["model"],
    help={**JSON, "model": "explain what is wrong with this model", "error": "explain this error message"},
)
def doctor(_: Context, model: str, error: str = "", json: bool = False) -> int:
    """Explain why a model does not answer, and what to do. No model is called."""
    from swarm.commands import health as commands

    return commands.doctor(model, error=error, as_json=json)


@task(name="login", positional=["provider"], help={"provider": "copilot"})
def login(_: Context, provider: str) -> None:
    """Log LiteLLM in to GitHub Copilot, once, in your browser."""
    from swarm.litellm.running import login as replace

    replace(provider)


# `./inv litellm` is `./inv litellm.status`.
collection = Collection(up, down, logs, status, init, models, add, remove, dedup, health, doctor, login)
