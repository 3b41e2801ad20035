"""What the errors of LiteLLM's API mean, and what to do about them."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.errors import RemoteError
from swarm.text import visible

__all__ = ["ApiError", "Unanswered", "api_error", "unanswered"]

_LONGEST = 300  # characters of a server's own words in a message
_LOGS = "./inv litellm.logs shows why"

# (status or None for any, part of the type or message, sentence, hint). The first that fits is used.
_ROWS: tuple[tuple[int | None, str, str, str], ...] = (
    (401, "", "LiteLLM does not accept the master key",
     "LITELLM_MASTER_KEY in litellm/.env must be the proxy's; ./inv litellm.up restarts it with the current one"),
    (403, "", "LiteLLM does not let this key change models", "LITELLM_MASTER_KEY must hold the master key"),
    (None, "no_db_connection", "LiteLLM can't reach its database", "./inv litellm.status shows whether it runs"),
    (None, "No connected db", "LiteLLM runs without a database, so that models can't be registered",
     "set DATABASE_URL for the proxy; the containers of ./inv litellm.up have one"),
    (None, "STORE_MODEL_IN_DB", "LiteLLM does not keep models in its database",
     "start the proxy with STORE_MODEL_IN_DB=True; ./inv litellm.doctor MODEL shows what overrides it"),
    (404, "", "LiteLLM does not know it", "./inv litellm.models lists what it knows"),
)  # fmt: skip


class ApiError(RemoteError):
    """The proxy answered a request with an error. `text` is what it said, without secrets."""

    def __init__(self, message: str, hint: str | None, *, status: int, kind: str, text: str) -> None:
        super().__init__(message, hint)
        self.status, self.kind, self.text = status, kind, text


class Unanswered(RemoteError):
    """A request got no answer, so that it is unknown whether it was carried out."""


@dataclass(frozen=True)
class _Said:
    status: int
    kind: str
    text: str

    def fits(self, status: int | None, part: str) -> bool:
        return status in {None, self.status} and (not part or part in self.kind or part in self.text)


def api_error(what: str, status: int, kind: str, text: str) -> ApiError:
    """Return the error for an answer of the API. `what` says what was requested, `kind` is the API's type."""
    said = _Said(status, kind, text)
    shown = visible(text.strip(), lines=False)[:_LONGEST]
    for code, part, sentence, hint in _ROWS:
        if said.fits(code, part):
            return ApiError(f"{what}: {sentence}", hint, status=status, kind=kind, text=shown)
    detail = shown or "no reason given"
    return ApiError(
        f"{what}: LiteLLM answered {status} ({detail})", _LOGS, status=status, kind=kind, text=shown
    )


def unanswered(what: str, url: str, error: Exception, limit: float) -> Unanswered:
    """Return the error for a request that got no answer: refused, timed out, broken off, or untrusted."""
    name = type(error).__name__
    if "Timeout" in name:
        return Unanswered(f"{what}: LiteLLM at {url} did not answer within {limit:.0f} s", _LOGS)
    if "SSL" in name:
        return Unanswered(
            f"{what}: the TLS certificate of {url} is not trusted", "set REQUESTS_CA_BUNDLE to the CA's file"
        )
    if "InvalidURL" in name or "LocationParse" in name or "InvalidSchema" in name or "MissingSchema" in name:
        return Unanswered(f"{what}: {url} is not a valid URL", "correct LITELLM_URL in litellm/.env")
    if "refused" in str(error):
        return Unanswered(f"{what}: nothing listens at {url}", "./inv litellm.up starts LiteLLM")
    if "resolve" in str(error) or "Name or service" in str(error):
        return Unanswered(f"{what}: the host of {url} is unknown", "correct LITELLM_URL in litellm/.env")
    return Unanswered(f"{what}: LiteLLM at {url} closed the connection", _LOGS)
