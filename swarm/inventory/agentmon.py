"""`agentmon:` of a host file: where the hook in the guest sends the agent's events."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from swarm.inventory.fields import wrong
from swarm.inventory.inside import Section
from swarm.inventory.shapes import Shape, Variable, names_server

__all__ = ["AgentmonSettings"]

# Characters that need no quotes in OpenClaw's .env file.
_URL = re.compile(r"https?://[A-Za-z0-9._~:/?&=%\[\],;+-]+")

_Client = Annotated[
    str,
    Shape(
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", "at most 128 letters, digits, dots, hyphens and _, such as zap"
    ),
]


def _url(value: str) -> str:
    if "@" in value:
        raise wrong("expected a URL without credentials", "token_env names the variable with the token")
    if not (_URL.fullmatch(value) and names_server(value)):
        raise wrong("expected http:// or https:// with a host and a port, such as http://192.168.122.1:8080")
    return value


class AgentmonSettings(Section):
    """`agentmon:` of a host file: the settings of `inv hook.deploy`."""

    url: Annotated[str, AfterValidator(_url)] = Field(
        description="The ingest endpoint, as the guest reaches it. Without a path, events go to /v1/events.",
        examples=["http://192.168.122.1:8080"],
    )
    token_env: Variable | None = Field(
        default=None,
        description="The environment variable on this computer that contains the endpoint's token, if it needs one.",
        examples=["AGENTMON_TOKEN"],
    )
    vm_name: _Client | None = Field(
        default=None,
        description="The client id in the events, event.source.client_id. Default: the host's name.",
        examples=["zap"],
    )
    batch: Literal["single", "array", "ndjson"] = Field(
        default="single", description="How a request holds several events: one each, a JSON array, or lines."
    )
    content: bool = Field(
        default=False, description="Also send the content of messages and tool calls, not only metadata."
    )
