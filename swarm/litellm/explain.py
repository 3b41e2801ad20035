"""What an error of a model means, and what to do: from the error's own text, and from what the proxy has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from swarm.litellm.dedup import duplicates
from swarm.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from swarm.litellm.client import Credential, Row

__all__ = [
    "Advice",
    "Cooldown",
    "about_cooldown",
    "about_error",
    "about_model",
    "about_overrides",
    "cooldowns",
    "errors_of",
]

_LONGEST = 200  # characters of an error in a message
# Anchored at LiteLLM's own words, so that each part is bounded.
_COOLDOWN = re.compile(
    r"No deployments available for selected model, Try again in (?P<seconds>\d{1,7})(\.\d+)? seconds"
    r".{0,200}?Passed model=(?P<model>[^\n]{1,200}?)\. "
    r"[^\n]{0,200}?cooldown_list=\[(?P<ids>[^\]\n]{0,20000})\]"
)


@dataclass(frozen=True)
class Advice:
    """What is wrong, and what to do about it."""

    what: str
    remedy: str


@dataclass(frozen=True)
class Cooldown:
    """A model whose deployments LiteLLM leaves out for a while, after errors of the provider."""

    model: str
    seconds: int
    ids: tuple[str, ...]


# Part of an error's text, as a pattern → (what it means, what to do). The first that fits is used.
_ERRORS: tuple[tuple[str, str, str], ...] = (
    (
        r"Copilot device-code login|GetAccessTokenError|GetDeviceCodeError",
        "LiteLLM is not logged in to GitHub Copilot",
        "./inv litellm.login copilot logs in once, in your browser",
    ),
    (
        r"insufficient_quota|credit balance is too low|Insufficient balance|billing[_ ]hard[_ ]limit|\b1113\b",
        "the provider's account has no credit left",
        "add credit in the provider's console; nothing is wrong with LiteLLM",
    ),
    (
        r"(?i)subscription|not (included|available) (in|on|for) your plan|no active plan|plan does not",
        "the provider's subscription does not include this model, or has ended",
        "check the plan in the provider's console, or use a model that it includes",
    ),
    (
        r"os\.environ/",
        "the text os.environ/… itself was sent as the key, because LiteLLM does not resolve it in credentials",
        "name the variable with key_env in models.yaml, then run ./inv litellm.init",
    ),
    (
        r"Missing credentials|api_key client option must be set|Missing .{0,40}API Key",
        "the model has no key: its credential does not exist or is empty",
        "./inv litellm.init creates the credentials of models.yaml",
    ),
    (
        r"Invalid model name passed|model group .{0,200} not found|not a valid model",
        "LiteLLM does not have this model",
        "./inv litellm.models lists what it has; ./inv litellm.add adds one",
    ),
    (
        r"AuthenticationError|invalid[_ ]api[_ ]key|invalid x-api-key|Incorrect API key",
        "the provider does not accept the key",
        "correct the key in litellm/.env, then run ./inv litellm.init",
    ),
    (
        r"no_db_connection|No connected db",
        "LiteLLM can't reach its database",
        "./inv litellm.status shows whether it runs",
    ),
    (
        r"NotFoundError|model_not_found|does not exist or you do not have access",
        "the provider does not have this model, or the account may not use it",
        "compare the model in models.yaml with the provider's list",
    ),
    (
        r"RateLimitError|rate_limit|\b429\b",
        "the provider limits the rate of requests",
        "wait; if it stays so, raise the limit at the provider, or lower rpm in models.yaml",
    ),
    (
        r"Timeout|APIConnectionError|Connection error",
        "the provider can't be reached, or does not answer",
        "check the network and api_base in models.yaml",
    ),
)


def cooldowns(text: str) -> list[Cooldown]:
    """Return the cooldowns that LiteLLM's own messages in `text` name: the newest of each model."""
    found: dict[str, Cooldown] = {}
    for match in _COOLDOWN.finditer(text):
        ids = tuple(re.findall(r"'([^']{1,200})'", match["ids"]))
        found[match["model"]] = Cooldown(match["model"], int(match["seconds"]), ids)
    return list(found.values())


def about_error(text: str, rows: Sequence[Row]) -> Advice:
    """Return what the text of an error means. `rows` are the proxy's deployments."""
    if found := cooldowns(text):
        return about_cooldown(found[-1], rows)
    for pattern, what, remedy in _ERRORS:
        if re.search(pattern, text):
            return Advice(what, remedy)
    shown = visible(text.strip(), lines=False)[:_LONGEST]
    return Advice(f"swarm does not know this error: {shown}", "./inv litellm.logs may say more")


def about_cooldown(cooldown: Cooldown, rows: Sequence[Row]) -> Advice:
    """Return what a cooldown means for its model."""
    named = [row for row in rows if row.id in cooldown.ids]
    models = ", ".join(dict.fromkeys(row.provider_model for row in named)) or "its deployments"
    listed = f"{len(cooldown.ids)} {'deployment' if len(cooldown.ids) == 1 else 'deployments'}"
    what = (
        f"{cooldown.model}: LiteLLM leaves out {listed} ({models}: {', '.join(cooldown.ids)}) for "
        f"{cooldown.seconds} s, because the provider answered with a rate limit or an error"
    )
    copies = [group for group in duplicates(rows) if any(row.id in cooldown.ids for row in group)]
    if copies:
        return Advice(
            what, "they are copies of one deployment; ./inv litellm.dedup removes them, which cures it"
        )
    return Advice(
        what, f"wait {cooldown.seconds} s; a restart does not help. If it comes back, add a deployment"
    )


def errors_of(model: str, log: str) -> list[str]:
    """Return the newest errors of a model in the proxy's log, at most three of different meaning."""
    # Other names may begin or end with this one: glm is neither glm-flash nor zai/glm-5.3. A sentence may end with it.
    whole = re.compile(rf"(?<![\w.-]){re.escape(model)}(?![\w-]|[.:/@]\w)")
    named = [
        line
        for line in log.splitlines()
        if whole.search(line) and re.search(r"(?i)error|No deployments", line)
    ]
    newest: dict[str, str] = {}
    for line in reversed(named):
        newest.setdefault(_meaning(line[:2000]), line[:2000])
    return list(newest.values())[:3]


def _meaning(text: str) -> str:
    """Return what is the same in each variant of an error, which differ in times and ids."""
    if found := cooldowns(text):
        return f"cooldown of {found[-1].model}"
    known = (what for pattern, what, _ in _ERRORS if re.search(pattern, text))
    return next(known, None) or re.sub(r"\w*\d\w*", "", text)


def about_model(name: str, rows: Sequence[Row], credentials: Iterable[Credential]) -> list[Advice]:
    """Return what is wrong with the deployments called `name`, without asking the model anything."""
    mine = [row for row in rows if row.name == name]
    if not mine:
        near = get_close_matches(name, sorted({row.name for row in rows}), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "./inv litellm.models lists what it has"
        return [Advice(f"LiteLLM has no model {name!r}", f"{hint} ./inv litellm.add adds one")]
    known, found = {each.name: each for each in credentials}, []
    for row in mine:
        if row.blocked:
            found.append(Advice(f"{name} ({row.id}) is blocked", "unblock it in LiteLLM's user interface"))
        if row.credential and row.credential not in known:
            found.append(
                Advice(
                    f"{name} uses the credential {row.credential!r}, which does not exist",
                    "./inv litellm.init creates the credentials of models.yaml",
                )
            )
        elif row.credential and any(
            str(value).startswith("os.environ/") or not value
            for value in known[row.credential].values.values()
        ):
            found.append(
                Advice(
                    f"the credential {row.credential!r} holds no key",
                    "./inv litellm.init writes that of litellm/.env",
                )
            )
    copies = [group for group in duplicates(mine) if len(group) > 1]
    if copies:
        count = sum(len(group) - 1 for group in copies)
        found.append(
            Advice(
                f"{name} has {count} {'copy' if count == 1 else 'copies'}: one rate limit error blocks all of them",
                "./inv litellm.dedup removes them",
            )
        )
    return found


def about_overrides(settings: Any) -> list[Advice]:  # noqa: ANN401 - the JSON of /config/list
    """Return which settings a row of the table LiteLLM_Config overrides."""
    fields = settings if isinstance(settings, list) else []
    names = [
        str(each.get("field_name"))
        for each in fields
        if isinstance(each, dict) and each.get("stored_in_db") is True
    ]
    if not names:
        return []
    what = (
        f"the row general_settings of the table LiteLLM_Config sets {', '.join(sorted(names))}, "
        "which overrides the environment and config.yaml"
    )
    return [
        Advice(what, "change or remove it in LiteLLM's user interface, under Settings, then ./inv litellm.up")
    ]
