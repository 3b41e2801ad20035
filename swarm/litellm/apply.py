"""Carry out pending work with requests to the proxy, and find out what became of requests without a clear answer."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from swarm.errors import VerificationFailed
from swarm.files import private_dir
from swarm.litellm.difference import HOST, Observed, Work, candidates, compare
from swarm.litellm.identity import MARK
from swarm.litellm.masks import masked_keys
from swarm.litellm.reasons import ApiError, Unanswered
from swarm.locks import hold
from swarm.paths import state_dir
from swarm.reconcile import Applied, reconcile
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from swarm.console import Talk
    from swarm.deadline import Deadline
    from swarm.litellm.client import Client
    from swarm.litellm.difference import Difference
    from swarm.litellm.wanted import Wanted
    from swarm.plan import Plan

__all__ = ["bring", "exclusive", "observe"]

_SERVER_ERROR = 500  # from this status on, an error does not say whether the request was carried out
_CONFLICT = 409
_ROUNDS = 2  # the second sends what a listing has shown to be missing


def bring(
    client: Client,
    wanted: Wanted,
    talk: Talk,
    *,
    prune: bool = False,
    plan_only: bool = False,
    confirm: Callable[[Plan], None] | None = None,
) -> Plan:
    """Bring the proxy to the wanted state. Return the changes that were made, or with `plan_only` those that would be.

    Raise RemoteError, and VerificationFailed for what the proxy did not save.
    """
    notes: list[str] = []

    def difference(observed: Observed) -> Plan:
        found = compare(wanted, observed, prune=prune)
        notes[:] = found.notes
        return found.plan

    def apply(plan: Plan, observed: Observed) -> Applied[Observed]:
        return Applied(plan, _apply(client, wanted, observed, talk, prune=prune))

    def look() -> Observed:
        return observe(client, wanted, talk)

    guard = contextlib.nullcontext() if plan_only else exclusive(talk)
    with guard:
        plan = reconcile(look, difference, apply, talk, plan_only=plan_only, confirm=confirm)
    for note in notes:
        talk.warn(note)
    return plan


@contextlib.contextmanager
def exclusive(talk: Talk, deadline: Deadline | None = None) -> Iterator[None]:
    """Hold the lock of everything on this machine that changes the proxy's models.

    Raise TimeoutError if another run still holds it when the `deadline` expires.
    """
    waiting = "waiting for another run that changes LiteLLM's models"
    path = private_dir(state_dir()) / "litellm.lock"
    with hold(path, waiting=lambda: talk.screen.spinner(waiting), deadline=deadline):
        yield


def observe(client: Client, wanted: Wanted, talk: Talk) -> Observed:
    """Return what the proxy has: two requests, and one for each row of another tool whose key must be compared."""
    keys = {key for deployment in wanted.deployments for key in deployment.info}
    credentials, rows = client.credentials(), client.rows(keys)
    unknown = [row for row in candidates(wanted.deployments, rows) if not row.credential]
    shown = masked_keys(client, unknown, talk)
    masks = {
        name: str(found["api_key"]) if found and "api_key" in found else None for name, found in shown.items()
    }
    return Observed(credentials, rows, masks)


def _apply(client: Client, wanted: Wanted, observed: Observed, talk: Talk, *, prune: bool) -> Observed:
    """Carry the work out and return the state after it. Raise VerificationFailed if something was not saved."""
    refused: dict[str, ApiError] = {}
    left = compare(wanted, observed, prune=prune)
    blocked = {work.deployment.id for work in left.works if work.deployment and work.blocked}
    for _ in range(_ROUNDS):
        refused |= _round(client, left, talk)
        observed = observe(client, wanted, talk)
        left = _still_blocked(compare(wanted, observed, prune=prune), blocked)
        if not left.works or refused:
            break
    if not left.works:
        return observed
    if refused:
        reasons = "; ".join(error.message for error in refused.values())
        raise VerificationFailed(
            f"{len(left.works)} of the changes were not made: {reasons}",
            next(error.hint for error in refused.values()),
        )
    lines = "; ".join(work.change.line() for work in left.works)
    raise VerificationFailed(
        f"{HOST} accepted changes that it did not save: {lines}",
        f"./inv litellm.doctor {_model(left)} shows what overrides the database; "
        "./inv litellm.logs shows LiteLLM's own errors",
    )


def _model(left: Difference) -> str:
    """Return the first model of the work as one word of a command, or MODEL if it is all about credentials."""
    rows = [row.name for work in left.works for row in work.old]
    names = [work.deployment.name for work in left.works if work.deployment] or rows
    return quote(names[0]) if names else "MODEL"


def _still_blocked(left: Difference, blocked: Collection[str]) -> Difference:
    """Return the work with the blocks of deployments whose row the first round has deleted."""
    works = [
        replace(work, blocked=True) if work.deployment and work.deployment.id in blocked else work
        for work in left.works
    ]
    return replace(left, works=tuple(works))


def _round(client: Client, left: Difference, talk: Talk) -> dict[str, ApiError]:
    """Send the requests of all work. Return the errors of what the proxy refuses.

    Errors that leave it open whether a request was carried out are ignored: the next listing tells. Raise Unanswered
    when the proxy has gone.
    """
    refused: dict[str, ApiError] = {}
    total = len(left.works)
    with talk.step(f"{total} {'change' if total == 1 else 'changes'} in {HOST}") as meter:
        for number, work in enumerate(left.works, 1):
            meter.note(f"{number} of {total}: {work.change.subject}")
            try:
                _send(client, work)
            except Unanswered:
                if client.health("liveliness").status == 0:
                    raise
            except ApiError as error:
                if error.status < _SERVER_ERROR and error.status != _CONFLICT:
                    refused[work.change.subject] = error
                elif error.kind == "no_db_connection":
                    raise
    return refused


def _send(client: Client, work: Work) -> None:
    match work.op:
        case "add_credential" | "update_credential" | "replace_credential" | "delete_credential":
            _send_credential(client, work)
        case "add_model" | "replace_model":
            _register(client, work)
        case "update_model":
            client.update_model(work.old[0].id, work.patch)
        case "delete_model":
            client.delete_model(work.old[0].id)


def _send_credential(client: Client, work: Work) -> None:
    credential = work.credential
    if credential is None:
        if not any(
            row.credential == work.name for row in client.rows()
        ):  # LiteLLM may have lost a replacement
            client.delete_credential(work.name)
        return
    info = {**credential.info, MARK: credential.mark}
    if work.op == "update_credential":
        client.update_credential(credential.name, {} if work.patch else credential.values, info)
        return
    if work.op == "replace_credential":
        client.delete_credential(credential.name)
    client.add_credential(credential.name, credential.values, info)


def _register(client: Client, work: Work) -> None:
    """Register a deployment, and delete the rows that it replaces: those with another id only once it is there."""
    deployment = work.deployment
    if deployment is None:
        raise AssertionError("a registration without a deployment")
    info = {**deployment.info, "id": deployment.id, MARK: deployment.mark}
    for row in work.old:
        if row.id == deployment.id:
            client.delete_model(row.id)
    client.add_model(deployment.name, deployment.params, info, blocked=work.blocked)
    replaced = [row for row in work.old if row.id != deployment.id]
    if replaced and client.exists(deployment.id):  # LiteLLM may answer 200 without having saved it
        for row in replaced:
            client.delete_model(row.id)
