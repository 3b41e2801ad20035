"""LiteLLM without Docker. This placeholder makes way for the real module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.errors import Unfit

if TYPE_CHECKING:
    from swarm.console import Talk


def up(talk: Talk) -> bool:  # noqa: ARG001
    """Start the proxy."""
    raise Unfit("--native is not available yet")


def down(talk: Talk) -> bool:  # noqa: ARG001
    """Stop the proxy."""
    raise Unfit("--native is not available yet")


def logs(*, follow: bool, lines: int) -> int:  # noqa: ARG001
    """Show the logs."""
    raise Unfit("--native is not available yet")


def state() -> dict[str, str]:
    """Return the state, or nothing where there is no native installation."""
    return {}
