"""What makes two deployments the same, and the marks by which swarm recognizes what it wrote."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEFAULTS", "MARK", "deployment_id", "effective", "fingerprint", "keyed_fingerprint", "route"]

MARK = "swarm"  # the key of our mark in model_info and credential_info
# The name space of our ids: a random UUID, fixed forever. Changing it would register every model a second time.
_SPACE = UUID("5f0b2a52-6d0c-4f6e-9b36-0b5d7c1f7a3e")
# The parameters that decide where a request goes. Two deployments of one name that agree in them are the same one.
_ROUTE = (
    "model",
    "litellm_credential_name",
    "api_base",
    "base_url",
    "api_version",
    "organization",
    "region_name",
    "aws_region_name",
    "vertex_project",
    "vertex_location",
)
# What LiteLLM 1.109.1 adds to each row's parameters by itself.
DEFAULTS: dict[str, Any] = {
    "allow_client_keepalive_override": False,
    "merge_reasoning_content_in_choices": False,
    "use_in_pass_through": False,
    "use_litellm_proxy": False,
    "use_xai_oauth": False,
}
_LENGTH = 32  # hex digits of a fingerprint: 128 bits


def route(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that decide where a request goes."""
    return {key: params[key] for key in _ROUTE if params.get(key) is not None}


def effective(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters without those that LiteLLM adds by itself and those that say nothing."""
    return {
        key: value
        for key, value in params.items()
        if value is not None and not (key in DEFAULTS and value == DEFAULTS[key])
    }


def deployment_id(name: str, params: Mapping[str, Any]) -> str:
    """Return the id of a deployment: the same for each registration of the same name and route."""
    return str(uuid5(_SPACE, _canonical([name, route(params)])))


def fingerprint(name: str, params: Mapping[str, Any], info: Mapping[str, Any]) -> str:
    """Return a mark that changes with what was written. Nothing in it is secret."""
    return hashlib.sha256(_canonical([name, params, info]).encode()).hexdigest()[:_LENGTH]


def keyed_fingerprint(key: bytes, values: Mapping[str, str]) -> str:
    """Return a fingerprint of secret values. A guess can't be tested against it without the `key`."""
    return hmac.new(key, _canonical(values).encode(), hashlib.sha256).hexdigest()[:_LENGTH]


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
