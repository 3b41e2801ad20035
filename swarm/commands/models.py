"""The commands about LiteLLM's models: init, models, add, remove, dedup."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from swarm.console import Talk, screen
from swarm.errors import Refused, UsageError
from swarm.files import rewrite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from swarm.litellm.client import Client, Row
    from swarm.litellm.environment import Environment
    from swarm.plan import Plan

__all__ = ["add", "dedup", "init", "listing", "planned", "remove"]


def init(*, plan_only: bool, prune: bool, yes: bool, as_json: bool) -> int:
    """Bring LiteLLM's database to what models.yaml says."""
    from swarm.litellm import apply, wanted

    talk = Talk(screen(), quiet=as_json)
    with _session() as (environment, client):
        target = wanted.resolve(wanted.load(), environment)
        plan = apply.bring(
            client, target, talk, prune=prune, plan_only=plan_only, confirm=_confirm(talk, yes=yes)
        )
    return _ended(plan, as_json=as_json)


def planned(talk: Talk) -> Plan:
    """Return what `init` would change. Raise a SwarmError if LiteLLM can't be asked."""
    from swarm.litellm import apply, wanted

    with _session() as (environment, client):
        return apply.bring(client, wanted.resolve(wanted.load(), environment), talk, plan_only=True)


def listing(*, as_json: bool) -> int:
    """Show all models."""
    from swarm.litellm.dedup import duplicates

    with _session() as (_, client):
        rows = client.rows()
    copies = {row.id: len(group) - 1 for group in duplicates(rows) for row in group}
    rows.sort(key=lambda row: (row.name, row.provider_model, row.id))
    if as_json:
        screen().json([_data(row, copies.get(row.id, 0)) for row in rows])
        return 0
    columns = ("name", "model", "credential", "source", "state", "copies")
    screen().table(columns, [_line(row, copies.get(row.id, 0)) for row in rows])
    if copies:
        Talk(screen()).warn(
            f"{len(copies)} models are copies of each other; ./inv litellm.dedup removes them"
        )
    return 0


def add(
    name: str, model: str, variable: str, api_base: str, credential: str, *, yes: bool, as_json: bool
) -> int:
    """Add a model to models.yaml and register it."""
    from swarm.litellm import apply, edit, wanted

    talk = Talk(screen(), quiet=as_json)
    with _session() as (environment, client):
        if variable and not environment.values.get(variable, "").strip():
            raise UsageError(f"{variable} is not set in {environment.source}", f"add the line {variable}=…")
        path = wanted.models_file()
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if edit.add(name, model, variable, api_base, credential):
            talk.say(f"+ {name} in models.yaml")
        target = wanted.resolve(wanted.load(), environment)
        chosen = tuple(each for each in target.deployments if each.name == name)
        used = {each.params.get("litellm_credential_name") for each in chosen}
        keys = tuple(each for each in target.credentials if each.name in used)
        part = replace(target, deployments=chosen, credentials=keys, partial=True)
        try:
            plan = apply.bring(client, part, talk, confirm=_confirm(talk, yes=yes))
        except Refused:
            rewrite(path, before)
            raise
    return _ended(plan, as_json=as_json)


def remove(name: str, *, plan_only: bool, yes: bool, as_json: bool) -> int:
    """Remove a model from models.yaml and from the database."""
    from swarm.litellm.removal import remove as delete

    talk = Talk(screen(), quiet=as_json)
    with _session() as (_, client):
        plan = delete(client, name, talk, plan_only=plan_only, confirm=_confirm(talk, yes=yes))
    return _ended(plan, as_json=as_json)


def dedup(*, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Delete copies of deployments from the database."""
    from swarm.litellm import apply
    from swarm.litellm.dedup import dedup as delete
    from swarm.litellm.dedup import inspect
    from swarm.reconcile import Applied, reconcile

    talk = Talk(screen(), quiet=as_json)
    notes: list[str] = []
    with _session() as (_, client):

        def observe() -> Any:  # noqa: ANN401 - a Verdict, whose module is loaded late
            verdict = inspect(client, talk)
            notes[:] = verdict.uncertain
            return verdict

        def carry_out(plan: Plan, verdict: Any) -> Applied[Any]:  # noqa: ANN401 - as above
            delete(client, verdict, talk)
            return Applied(plan)

        with apply.exclusive(talk):
            plan = reconcile(
                observe, lambda verdict: verdict.plan, carry_out, talk,
                plan_only=dry_run, confirm=_confirm(talk, yes=yes),
            )  # fmt: skip
    for note in notes:
        talk.warn(note)
    return _ended(plan, as_json=as_json)


@contextmanager
def _session() -> Iterator[tuple[Environment, Client]]:
    """Yield litellm/.env and a session with its proxy."""
    from swarm.litellm import client, environment

    variables = environment.read()
    with client.client(variables) as session:
        yield variables, session


def _confirm(talk: Talk, *, yes: bool) -> Callable[[Plan], None]:
    """Return what asks before models are replaced or deleted."""

    def confirm(plan: Plan) -> None:
        if plan.destructive and not yes and not talk.ask("Replace and delete these models?"):
            raise Refused("nothing was changed", "--yes replaces and deletes without a question")

    return confirm


def _ended(plan: Plan, *, as_json: bool) -> int:
    if as_json:
        screen().json({**plan.to_json(), "changed": plan.changed})
    return 0


def _data(row: Row, copies: int) -> dict[str, Any]:
    return {
        "name": row.name,
        "deployment": row.provider_model,
        "provider": row.provider_model.partition("/")[0],
        "credential": row.credential or None,
        "source": "db" if row.from_db else "config",
        "blocked": row.blocked,
        "duplicates": copies,
        "id": row.id,
    }


def _line(row: Row, copies: int) -> tuple[str, ...]:
    state = "blocked" if row.blocked else ""
    source = "database" if row.from_db else "config.yaml"
    return row.name, row.provider_model, row.credential, source, state, f"✗ {copies}" if copies else ""
