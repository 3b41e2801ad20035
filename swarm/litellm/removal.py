"""Remove a model from models.yaml and from the proxy's database."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swarm.errors import UsageError
from swarm.litellm import apply, edit
from swarm.litellm.wanted import load
from swarm.plan import Change, Plan
from swarm.reconcile import Applied, reconcile

if TYPE_CHECKING:
    from collections.abc import Callable

    from swarm.console import Talk
    from swarm.litellm.client import Client, Row

__all__ = ["remove"]


@dataclass(frozen=True)
class Found:
    """Where a model is: the number of its entries in models.yaml, and its rows in the proxy."""

    entries: int
    rows: tuple[Row, ...]

    @property
    def stored(self) -> list[Row]:
        """The rows of the database. The others come from LiteLLM's config.yaml."""
        return [row for row in self.rows if row.from_db]


def remove(
    client: Client, name: str, talk: Talk, *, plan_only: bool, confirm: Callable[[Plan], None] | None = None
) -> Plan:
    """Remove the model `name`. Return the changes that were made, or with `plan_only` those that would be.

    Raise UsageError if there is no such model, and VerificationFailed if it is still there afterwards.
    """

    def observe() -> Found:
        entries = sum(entry.name == name for entry in load().models)
        return Found(entries, tuple(row for row in client.rows() if row.name == name))

    def difference(found: Found) -> Plan:
        in_file = [Change("delete", f"{name} in models.yaml")] if found.entries else []
        stored = [Change("delete", f"model {name}", before=row.provider_model) for row in found.stored]
        return Plan("LiteLLM", (*in_file, *stored))

    def carry_out(plan: Plan, found: Found) -> Applied[Found]:
        edit.remove(name)
        for row in found.stored:
            client.delete_model(row.id)
        return Applied(plan, observe())

    with contextlib.nullcontext() if plan_only else apply.exclusive(talk):
        before = observe()
        if not before.entries and not before.rows:
            raise UsageError(f"there is no model {name!r}", "./inv litellm.models lists all")
        plan = reconcile(lambda: before, difference, carry_out, talk, plan_only=plan_only, confirm=confirm)
    if len(before.stored) < len(before.rows):
        talk.warn(f"{name} is also in LiteLLM's config.yaml, which this command does not change")
    return plan
