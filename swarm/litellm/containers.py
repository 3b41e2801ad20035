"""The containers of litellm/compose.yaml, as Docker describes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swarm.litellm.engine import Engine

__all__ = ["INIT", "JOBS", "Container", "containers"]

INIT = "litellm-init"
JOBS = ("litellm-migrate", INIT)
_ORDER = ("litellm", "litellm-db", *JOBS)


@dataclass(frozen=True)
class Container:
    """One container. `health` is Docker's word, or '' if it has no health check. `restarts` are Docker's own."""

    service: str
    id: str
    image: str
    state: str
    health: str
    exit_code: int
    restarts: int
    started: str

    @property
    def job(self) -> bool:
        """Whether it is meant to end."""
        return self.service in JOBS

    @property
    def good(self) -> bool:
        """Whether it does what it is for: it serves, or its job is done."""
        if self.job:
            return self.state == "exited" and self.exit_code == 0
        return self.state == "running" and self.health in {"healthy", ""}

    @property
    def shown(self) -> str:
        """Its state for people: 'running (healthy)', 'done', 'exited (1)'."""
        if self.state == "exited":
            return "done" if self.good else f"exited ({self.exit_code})"
        return f"{self.state} ({self.health})" if self.health else self.state

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "service": self.service,
            "state": self.state,
            "health": self.health or None,
            "image": self.image,
            "exit_code": self.exit_code if self.state == "exited" else None,
            "restarts": self.restarts,
        }


def containers(engine: Engine) -> list[Container]:
    """Return the project's containers, running or not. Raise SwarmError."""
    found = [_container(each) for each in engine.containers()]
    return sorted(
        found, key=lambda each: _ORDER.index(each.service) if each.service in _ORDER else len(_ORDER)
    )


def _container(each: dict[str, Any]) -> Container:
    labels, status = each["Config"].get("Labels") or {}, each["State"]
    return Container(
        service=labels.get("com.docker.compose.service", ""),
        id=each["Id"],
        image=each["Config"]["Image"],
        state=status["Status"],
        health=(status.get("Health") or {}).get("Status", ""),
        exit_code=status["ExitCode"],
        restarts=each.get("RestartCount", 0),
        started=status["StartedAt"],
    )
