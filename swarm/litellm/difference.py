"""The difference between models.yaml and what the proxy has: a pure function that returns the pending work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from swarm.litellm.identity import DEFAULTS, MARK, effective
from swarm.plan import Change, Plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from swarm.litellm.client import Credential, Row
    from swarm.litellm.wanted import Deployment, Wanted, WantedCredential

__all__ = ["HOST", "Difference", "Observed", "Work", "candidates", "compare", "listed", "mask_fits"]

HOST = "LiteLLM"
_EDGE = 2  # characters that the API shows of a secret at its start and its end
Op = Literal[
    "add_credential", "update_credential", "replace_credential", "delete_credential",
    "add_model", "update_model", "replace_model", "delete_model",
]  # fmt: skip


@dataclass(frozen=True)
class Observed:
    """What the proxy has. `masks` are the masked keys of the rows that may be imported, by id."""

    credentials: Sequence[Credential]
    rows: Sequence[Row]
    masks: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Work:
    """One pending change, and what carries it out. `old` are the rows that go. `blocked`: register it as blocked."""

    op: Op
    change: Change
    credential: WantedCredential | None = None
    name: str = ""
    deployment: Deployment | None = None
    old: tuple[Row, ...] = ()
    patch: Mapping[str, Any] = field(default_factory=dict)
    blocked: bool = False


@dataclass(frozen=True)
class Difference:
    """The pending work in execution order, and notes about what is left as it is."""

    works: tuple[Work, ...]
    notes: tuple[str, ...]

    @property
    def plan(self) -> Plan:
        """The work as a plan."""
        return Plan(HOST, tuple(work.change for work in self.works))


def compare(wanted: Wanted, observed: Observed, *, prune: bool = False) -> Difference:
    """Return what brings the proxy to the wanted state. Models of config.yaml are never touched.

    Only rows that swarm has marked, and copies of wanted deployments, are ever replaced or deleted.
    """
    notes: list[str] = [f"skipped {name} and its models: {reason}" for name, reason in wanted.skipped.items()]
    present = {row.id: row for row in observed.rows if row.from_db}
    old, foreign = _stale(wanted, observed.rows), _foreign(observed.rows)
    keys = {credential.name: credential.values.get("api_key") for credential in wanted.credentials}
    works, deletions = list(_credentials(wanted, observed)), []
    for deployment in wanted.deployments:
        copies = [row for row in foreign.get(deployment.name, ()) if _same(deployment, row)]
        key = keys.get(deployment.params.get("litellm_credential_name", ""))
        imported = [row for row in copies if _importable(row, key, observed.masks.get(row.id), notes)]
        if row := present.get(deployment.id):
            works += _update(deployment, row, notes)
            deletions += [_delete(copy, "a copy that another tool made") for copy in imported]
        else:
            predecessors = imported or _pop(old, deployment.name)
            blocked = any(row.blocked for row in [*copies, *predecessors])
            works.append(_create(deployment, predecessors, imported=bool(imported), blocked=blocked))
    if wanted.partial:
        return Difference((*works, *deletions), tuple(dict.fromkeys(notes)))
    left = [row for rows in old.values() for row in rows]
    if prune:
        deletions += [_delete(row, "models.yaml no longer names it") for row in left]
    elif left:
        notes.append(f"models.yaml no longer names {listed(row.name for row in left)}; --prune removes it")
    works += deletions
    going = {
        row.id for work in works for row in work.old
    }  # also rows whose place one with another credential takes
    works += _unused_credentials(wanted, observed, going, notes, prune=prune)
    return Difference(tuple(works), tuple(dict.fromkeys(notes)))


def candidates(deployments: Iterable[Deployment], rows: Iterable[Row]) -> list[Row]:
    """Return the rows that another tool made for one of these deployments: the same name, model and API address."""
    foreign = _foreign(rows)
    found = {row.id: row for each in deployments for row in foreign.get(each.name, ()) if _same(each, row)}
    return list(found.values())


def mask_fits(mask: str, value: str) -> bool:
    """Return whether a masked secret, such as sk****89, may be `value`: its first and last two characters are shown."""
    if "*" not in mask:
        return mask == value
    return mask[:_EDGE] == value[:_EDGE] and mask[-_EDGE:] == value[-_EDGE:]


# ── credentials ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _credentials(wanted: Wanted, observed: Observed) -> Iterable[Work]:
    known = {each.name: each for each in observed.credentials}
    for credential in wanted.credentials:
        work = _credential(credential, known.get(credential.name))
        if work:
            yield work


def _credential(credential: WantedCredential, seen: Credential | None) -> Work | None:
    subject = f"credential {credential.name}"
    if seen is None:
        change = Change("create", subject, after=", ".join(sorted(credential.values)))
        return Work(op="add_credential", change=change, credential=credential)
    if gone := sorted(key for key in seen.values if key not in credential.values):
        change = Change("replace", subject, note=f"{', '.join(gone)} must go")
        return Work(op="replace_credential", change=change, credential=credential)
    mark = seen.info.get(MARK)
    if mark is None:
        change = Change("update", subject, before="key unknown", after="the key of litellm/.env")
        return Work(op="update_credential", change=change, credential=credential)
    moved = sorted(key for key, value in credential.public.items() if seen.values.get(key) != value)
    if mark != credential.mark or moved:
        change = Change("update", subject, note=f"{', '.join(moved) or 'the key'} changed")
        return Work(op="update_credential", change=change, credential=credential)
    stale = sorted(key for key, value in credential.info.items() if seen.info.get(key) != value)
    if stale:
        change = Change("update", subject, note=f"{', '.join(stale)} changed; the key stays")
        return Work(op="update_credential", change=change, credential=credential, patch={"info only": True})
    return None


def _unused_credentials(
    wanted: Wanted, observed: Observed, going: set[str], notes: list[str], *, prune: bool
) -> Iterable[Work]:
    named = {credential.name for credential in wanted.credentials} | wanted.skipped.keys()
    used = {row.credential for row in observed.rows if row.id not in going}
    for each in observed.credentials:
        if each.name in named or MARK not in each.info:
            continue
        if each.name in used:
            notes.append(f"the credential {each.name} is kept, because models use it")
        elif not prune:
            notes.append(f"models.yaml no longer names the credential {each.name}; --prune removes it")
        else:
            change = Change("delete", f"credential {each.name}", note="models.yaml no longer names it")
            yield Work(op="delete_credential", change=change, name=each.name)


# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _create(deployment: Deployment, old: Sequence[Row], *, imported: bool, blocked: bool) -> Work:
    subject = f"model {deployment.name}"
    if not old:
        change = Change("create", subject, after=deployment.shown, note="blocked" if blocked else None)
        return Work(op="add_model", change=change, deployment=deployment, blocked=blocked)
    origin = "imported from another tool's row" if imported else "replaces the old deployment"
    note = origin if len(old) == 1 else f"{origin} and {len(old) - 1} more"
    change = Change("replace", subject, before=_shown(old[0]), after=deployment.shown, note=note)
    return Work(op="replace_model", change=change, deployment=deployment, old=tuple(old), blocked=blocked)


def _update(deployment: Deployment, row: Row, notes: list[str]) -> Iterable[Work]:
    subject, seen = f"model {deployment.name}", effective(row.params)
    written = row.info.get(MARK) == deployment.mark
    extra = sorted(key for key in seen if key not in deployment.params)
    if extra:
        change = Change(
            "replace", subject, before=f"{_some(seen, extra)}", note=f"{', '.join(extra)} must go"
        )
        return [
            Work(op="replace_model", change=change, deployment=deployment, old=(row,), blocked=row.blocked)
        ]
    hidden = sorted(
        key for key, value in deployment.params.items() if key not in seen and not _default(key, value)
    )
    changed = sorted(key for key in deployment.params if key in seen and seen[key] != deployment.params[key])
    if hidden and written:
        notes.append(f"{deployment.name}: {', '.join(hidden)} is unknown, because the API does not show it")
    if not written:
        changed = sorted({*changed, *hidden})
    details = sorted(key for key, value in deployment.info.items() if row.info.get(key) != value)
    if not (changed or details or row.name != deployment.name or not written):
        return []
    keys = [*changed, *(f"info.{key}" for key in details)] or ["mark"]
    patch = {
        "model_name": deployment.name,
        "litellm_params": dict(deployment.params),
        "model_info": {**deployment.info, MARK: deployment.mark},
    }
    change = Change(
        "update", subject, before=_some(seen, changed), after=_some(deployment.params, changed),
        note=None if changed else ", ".join(keys),
    )  # fmt: skip
    return [Work(op="update_model", change=change, deployment=deployment, old=(row,), patch=patch)]


def _delete(row: Row, reason: str) -> Work:
    change = Change("delete", f"model {row.name}", before=_shown(row), note=f"{reason}; id {row.id}")
    return Work(op="delete_model", change=change, old=(row,))


def _default(key: str, value: object) -> bool:
    """Return whether a wanted parameter only repeats what LiteLLM adds anyway."""
    return key in DEFAULTS and DEFAULTS[key] == value


def _same(deployment: Deployment, row: Row) -> bool:
    if row.provider_model != deployment.params["model"]:
        return False
    if row.credential and row.credential != deployment.params.get("litellm_credential_name"):
        return False
    base = row.params.get("api_base")
    return base == deployment.api_base or (base is None and bool(row.credential))


def _importable(row: Row, key: str | None, mask: str | None, notes: list[str]) -> bool:
    """Return whether nothing is lost when the row goes: it has no key of its own, or `mask` fits the wanted `key`."""
    if row.credential or (mask is None and key is None):
        return True
    if mask is not None and key is not None and mask_fits(mask, key):
        return True
    if row.blocked and mask is None:  # the API shows no mask of a blocked model
        reason = "it is blocked, so its key can't be compared; ./inv litellm.remove removes it"
    else:
        reason = "its key is not that of litellm/.env"
    notes.append(f"kept {row.name} ({row.id}): {reason}")
    return False


def _foreign(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows of the database that swarm did not make, by model name."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.from_db and MARK not in row.info:
            found.setdefault(row.name, []).append(row)
    return found


def _stale(wanted: Wanted, rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the marked rows that models.yaml does not name, by model name, but not those of skipped credentials."""
    ids = {deployment.id for deployment in wanted.deployments}
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.from_db and MARK in row.info and row.id not in ids and row.credential not in wanted.skipped:
            found.setdefault(row.name, []).append(row)
    return found


def _pop(old: dict[str, list[Row]], name: str) -> list[Row]:
    rows = old.get(name)
    return [rows.pop(0)] if rows else []


def _shown(row: Row) -> str:
    return (row.provider_model or "unreadable") + (f" with {row.credential}" if row.credential else "")


def _some(params: Mapping[str, Any], keys: Iterable[str]) -> str | None:
    return ", ".join(f"{key} {params[key]}" for key in keys if key in params) or None


def listed(names: Iterable[str], most: int = 5) -> str:
    """Return names, each once, and how many more there are."""
    found = list(dict.fromkeys(names))
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")
