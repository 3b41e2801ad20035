"""Rows and wanted credentials for the tests of LiteLLM, and what the API would make of pending work."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from swarm.litellm.client import Credential, Row
from swarm.litellm.difference import Observed
from swarm.litellm.identity import DEFAULTS, MARK, keyed_fingerprint
from swarm.litellm.wanted import Deployment, Wanted, WantedCredential

if TYPE_CHECKING:
    from collections.abc import Iterable

    from swarm.litellm.difference import Work

KEY = "sk-real-0123456789"
SECRET = {"api_key"}  # what the API masks or hides


def wanted_credential(name: str = "openai", key: str = KEY, **public: str) -> WantedCredential:
    """Return a wanted credential."""
    values = {**public, "api_key": key}
    return WantedCredential(name, values, public, {}, keyed_fingerprint(b"salt", values))


def deployment(
    name: str = "gpt", model: str = "openai/gpt-5", credential: str | None = "openai", **params: Any
) -> Deployment:
    """Return a wanted deployment."""
    key = {"litellm_credential_name": credential} if credential else {}
    return Deployment(name, {"model": model, **params, **key}, {}, params.get("api_base"))


def wanted(*deployments: Deployment, credentials: Iterable[WantedCredential] | None = None) -> Wanted:
    """Return what is wanted: these deployments, by default with the one credential that they use."""
    return Wanted(tuple(credentials if credentials is not None else [wanted_credential()]), deployments)


def row(name: str = "gpt", model: str = "openai/gpt-5", *, row_id: str = "old", **params: Any) -> Row:
    """Return a row that another tool made, as /model/info shows it."""
    return Row(
        row_id, name, {**DEFAULTS, "model": model, **params}, {"id": row_id, "db_model": True}, from_db=True
    )


def shown(secret: str) -> str:
    """Return a secret as the API masks it."""
    return f"{secret[:2]}****{secret[-2:]}"


def carried_out(observed: Observed, works: Iterable[Work]) -> Observed:
    """Return what LiteLLM has after the work: a model of its API, measured at 1.109.1."""
    credentials = {each.name: each for each in observed.credentials}
    rows = {each.id: each for each in observed.rows}
    for work in works:
        if work.op == "delete_credential":
            del credentials[work.name]
        elif work.credential is not None:
            old = credentials.get(work.credential.name)
            base = dict(old.values) if old and work.op == "update_credential" else {}
            info = dict(old.info) if old and work.op == "update_credential" else {}
            new = {} if work.patch else work.credential.values
            masked = {key: shown(value) if key in SECRET else value for key, value in new.items()}
            info |= {**work.credential.info, MARK: work.credential.mark}
            credentials[work.credential.name] = Credential(work.credential.name, {**base, **masked}, info)
        elif work.op == "update_model":
            before = rows[work.old[0].id]
            params = {**before.params, **work.patch["litellm_params"]}
            info = {**before.info, **work.patch["model_info"]}
            rows[before.id] = replace(
                before, name=work.patch["model_name"], params=_visible(params), info=info
            )
        else:
            for each in work.old:
                rows.pop(each.id, None)
            if work.deployment is not None:
                rows[work.deployment.id] = registered(work.deployment, blocked=work.blocked)
    return Observed(list(credentials.values()), list(rows.values()), observed.masks)


def registered(deployed: Deployment, *, blocked: bool = False) -> Row:
    """Return the row of a deployment that swarm has registered."""
    info = {**deployed.info, "id": deployed.id, "db_model": True, "blocked": blocked, MARK: deployed.mark}
    return Row(deployed.id, deployed.name, {**DEFAULTS, **_visible(deployed.params)}, info, from_db=True)


def _visible(params: Any) -> dict[str, Any]:  # noqa: ANN401 - a mapping
    return {key: value for key, value in params.items() if not key.startswith("aws_secret")}
