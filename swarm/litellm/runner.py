"""What runs the proxy: Docker Compose, or user units of systemd, or something that swarm does not know."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Foreign", "Runner"]


class Runner(Protocol):
    """What `inv litellm.health` and `.doctor` need of it."""

    name: str

    def restart(self) -> None:
        """Restart the proxy, but not its database. Raise SwarmError."""

    def database_answers(self) -> bool | None:
        """Return whether PostgreSQL accepts connections, or None if that can't be found out."""

    def recent(self, minutes: int) -> str:
        """Return the end of what the proxy logged in the last `minutes`, without secrets, or an empty string."""


class Foreign:
    """A proxy that swarm did not start: it can be asked, but not restarted."""

    name = "another tool"

    def restart(self) -> None:
        """Never called: a health run asks a person to restart it."""
        from swarm.errors import Unfit

        raise Unfit("swarm does not run this LiteLLM, so it can't restart it", "restart it where it runs")

    def database_answers(self) -> bool | None:
        """Return None: unknown."""
        return None

    def recent(self, minutes: int) -> str:  # noqa: ARG002 - part of the protocol
        """Return nothing."""
        return ""
