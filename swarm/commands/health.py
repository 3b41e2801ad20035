"""The commands that say how LiteLLM is: health and doctor."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from swarm.console import Talk, screen
from swarm.errors import RemoteError, SwarmError, UsageError
from swarm.litellm import client as api
from swarm.litellm import environment
from swarm.litellm.running import runner

if TYPE_CHECKING:
    from swarm.litellm.client import Client
    from swarm.litellm.explain import Advice
    from swarm.litellm.runner import Runner

__all__ = ["doctor", "health"]

_MINUTES = 60  # of the proxy's log that are searched for errors of a model


def health(*, grace: float, as_json: bool) -> int:
    """Check LiteLLM, restart it if it is dead, and remove copies of models."""
    from swarm.litellm import maintenance

    if not 0 <= grace <= 3600:  # noqa: PLR2004 - an hour
        raise UsageError("--grace takes a number of seconds from 0 to 3600")
    talk = Talk(screen(), quiet=as_json)
    settings = maintenance.Settings(grace=grace, dedup=os.environ.get("DEDUP", "1") != "0")
    with api.client(environment.read()) as client:
        report = maintenance.run(client, runner(), settings, talk)
    for each in report.advice:
        talk.warn(f"{each.what}. {each.remedy}")
    for note in report.notes:
        talk.warn(note)
    if report.alarm:
        screen().error(SwarmError(report.alarm, report.hint))
    else:
        talk.done(report.summary)
    if as_json:
        with screen().verdict():
            screen().json(report.to_json())
    return report.exit_code


def doctor(model: str, *, error: str, as_json: bool) -> int:
    """Explain why a model does not answer. Return 1 if something is wrong with it."""
    with api.client(environment.read()) as client:
        found = _advice(client, runner(), model, error)
    if as_json:
        with screen().verdict():
            screen().json([vars(each) for each in found])
        return int(bool(found))
    talk = Talk(screen())
    for each in found:
        screen().error(SwarmError(each.what, each.remedy))
    if not found:
        talk.done(f"nothing is wrong with {model}" if model else "nothing is wrong with LiteLLM's settings")
    return int(bool(found))


def _advice(client: Client, runs: Runner, model: str, error: str) -> list[Advice]:
    from swarm.litellm import explain

    try:
        rows, credentials = client.rows(), client.credentials()
        settings = client.get("read the settings", "/config/list?config_type=general_settings")
    except RemoteError as problem:
        return [explain.Advice(problem.message, problem.hint or "./inv litellm.status shows more")]
    found = explain.about_overrides(settings)
    if model:
        found += explain.about_model(model, rows, credentials)
    if error:
        found.append(explain.about_error(error, rows))
    elif model:
        recent = explain.errors_of(model, runs.recent(_MINUTES))
        found += [explain.about_error(text, rows) for text in recent]
    return list(dict.fromkeys(found))
