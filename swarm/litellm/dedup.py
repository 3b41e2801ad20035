"""Find copies of a deployment in the database, decide which may go, and delete them.

A copy is not harmless: LiteLLM spares a model's only deployment after a rate limit error, but with two copies it blocks
both, and clients read "No deployments available".
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from swarm.litellm.difference import HOST, listed
from swarm.litellm.identity import MARK, deployment_id, effective
from swarm.litellm.masks import masked_keys
from swarm.litellm.reasons import ApiError, Unanswered
from swarm.plan import Change, Plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from swarm.console import Talk
    from swarm.litellm.client import Client, Row

__all__ = ["Group", "Verdict", "decide", "dedup", "duplicates", "inspect", "readable"]

_SERVER_ERROR = 500
_LAST = "9"  # sorts after every time of creation


@dataclass(frozen=True)
class Group:
    """Rows that are copies of each other: the one that stays, and those that may go.

    `alike` are the ids of those whose key agrees as far as LiteLLM shows it: four characters, which prove nothing. All
    keys of Anthropic begin with sk and end in AA.
    """

    keep: Row
    delete: tuple[Row, ...]
    rule: str
    alike: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Verdict:
    """The groups, and notes about rows that look alike but may differ."""

    groups: tuple[Group, ...]
    uncertain: tuple[str, ...]

    @property
    def plan(self) -> Plan:
        """The deletions as a plan."""
        return Plan(HOST, tuple(_change(group, row) for group in self.groups for row in group.delete))

    @property
    def proved(self) -> Verdict:
        """What may go without a question: rows whose key can't be compared as a whole are kept, and named."""
        left = [row for group in self.groups for row in group.delete if row.id in group.alike]
        if not left:
            return self
        proved = [
            replace(group, delete=tuple(row for row in group.delete if row.id not in group.alike))
            for group in self.groups
        ]
        count = f"{len(left)} possible {'copy' if len(left) == 1 else 'copies'}"
        names = listed(row.name for row in left)
        note = (
            f"kept {count} of {names}: LiteLLM shows only a part of the keys, which may differ; "
            "./inv litellm.dedup asks"
        )
        return Verdict(tuple(group for group in proved if group.delete), (*self.uncertain, note))


def duplicates(rows: Iterable[Row]) -> list[list[Row]]:
    """Return the rows of the database that agree in name, parameters and credential, where there are at least two.

    Rows whose parameters can't be read are left out.
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.from_db and row.id and readable(row):
            key = json.dumps([row.name, effective(row.params)], sort_keys=True)
            found.setdefault(key, []).append(row)
    return [rows for rows in found.values() if len(rows) > 1]


def readable(row: Row) -> bool:
    """Return whether the row's parameters could be decrypted: only then is its model PROVIDER/MODEL or a plain name."""
    model = row.provider_model
    return bool(model) and model.isprintable() and not (len(model) >= 56 and model.endswith("="))  # noqa: PLR2004


def decide(groups: Iterable[Sequence[Row]], masks: Mapping[str, Mapping[str, Any] | None]) -> Verdict:
    """Return which rows of each group may go. `masks` has the masked secrets of the rows without a credential."""
    certain, uncertain = [], []
    for rows in groups:
        keep, rule = _keeper(rows)
        going = []
        for row in rows:
            if row is keep:
                continue
            if reason := _difference(keep, row, masks):
                uncertain.append(f"kept {row.name} ({row.id}) beside {keep.id}: {reason}")
            else:
                going.append(row)
        if going:
            alike = frozenset(row.id for row in going if not row.credential and _masked(masks[row.id]))
            certain.append(Group(keep, tuple(going), rule, alike))
    return Verdict(tuple(certain), tuple(uncertain))


def inspect(client: Client, talk: Talk) -> Verdict:
    """Return what may go: one request, and one for each row in a group without a credential. Raise RemoteError."""
    rows = client.rows()
    groups = duplicates(rows)
    keyed = [row for group in groups for row in group if not row.credential]
    verdict = decide(groups, masked_keys(client, keyed, talk))
    unread = [
        f"kept {row.name} ({row.id}): its parameters can't be read"
        for row in rows
        if row.from_db and not readable(row)
    ]
    return Verdict(verdict.groups, (*verdict.uncertain, *unread))


def dedup(client: Client, verdict: Verdict, talk: Talk) -> int:
    """Delete the copies and return how many went. Raise RemoteError when the proxy has gone.

    A group whose kept row has vanished meanwhile is left alone: its copies may be all that is left.
    """
    total, gone, number = sum(len(group.delete) for group in verdict.groups), 0, 0
    with talk.step(f"deleting {total} {'copy' if total == 1 else 'copies'}") as meter:
        for group in verdict.groups:
            if not client.exists(group.keep.id):
                talk.warn(f"{group.keep.name}: {group.keep.id} no longer exists, so its copies are kept")
                continue
            for row in group.delete:
                number += 1
                meter.note(f"{number} of {total}: {row.name}")
                gone += _delete(client, row)
    return gone


def _delete(client: Client, row: Row) -> bool:
    try:
        return client.delete_model(row.id)
    except Unanswered:
        if client.health("liveliness").status == 0:
            raise
        return False
    except ApiError as error:
        if error.status < _SERVER_ERROR or error.kind == "no_db_connection":
            raise
        return False


def _keeper(rows: Sequence[Row]) -> tuple[Row, str]:
    """Return the row that stays, and the rule: the deterministic id, else the oldest, else the lowest id.

    Each machine that runs this chooses the same row.
    """
    for row in rows:
        if MARK in row.info or row.id == deployment_id(row.name, effective(row.params)):
            return row, "the id that swarm gives it"
    oldest = min(rows, key=lambda row: (str(row.info.get("created_at") or _LAST), row.id))
    return oldest, "the oldest" if oldest.info.get("created_at") else "the lowest id"


def _difference(keep: Row, row: Row, masks: Mapping[str, Mapping[str, Any] | None]) -> str | None:
    """Return why two rows may differ, or None."""
    if keep.blocked != row.blocked:
        return "one of the two is blocked"
    if keep.digest != row.digest:
        return "their model_info differs"
    if row.credential:
        return None
    ours, theirs = masks.get(keep.id), masks.get(row.id)
    if ours is None or theirs is None:
        return "its key could not be compared"
    return None if ours == theirs else "their keys differ"


def _masked(secrets: Mapping[str, Any] | None) -> bool:
    """Return whether LiteLLM hides a part of these secrets."""
    return any("*" in str(value) for value in (secrets or {}).values())


def _change(group: Group, row: Row) -> Change:
    note = f"a copy of {group.keep.id}, which stays: {group.rule}"
    if row.id in group.alike:
        note += "; of their keys LiteLLM shows only four characters, which agree"
    return Change("delete", f"model {row.name}", before=f"{row.provider_model}, id {row.id}", note=note)
