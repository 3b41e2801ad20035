"""Start the containers, and watch until LiteLLM is ready or one of them has failed."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from swarm.errors import CommandFailed
from swarm.litellm import engine as docker
from swarm.litellm import environment
from swarm.litellm.client import Client
from swarm.litellm.containers import INIT, Container, containers

if TYPE_CHECKING:
    from typing import IO

    from swarm.console import Meter
    from swarm.deadline import Deadline
    from swarm.litellm.client import Health
    from swarm.litellm.engine import Engine

__all__ = ["CRASHES", "Start", "answered", "session", "unready"]

# Restarts by Docker or systemd during this start, after which a service counts as broken. One may be bad luck, such as
# a database that is not up yet; but a start of LiteLLM takes 10 to 30 s, and a person waits for all of them.
CRASHES = 2
_POLL = 1.0  # seconds
_HEALTH = 10.0  # seconds that one health request may take
_LINES = 8  # of the log of a container that failed
_OK = 200


class Start:
    """One start. `before` are the containers that existed: what failed earlier does not count."""

    def __init__(self, engine: Engine, before: list[Container], deadline: Deadline, meter: Meter) -> None:
        self._engine, self._deadline, self._meter = engine, deadline, meter
        self._before = {each.id: each for each in before}

    def run(self) -> None:
        """Start the containers and wait. Raise CommandFailed if one fails or the time is up."""
        self._compose()
        self._ready()
        self._registered()

    def _compose(self) -> None:
        """Run `compose up`, which itself waits until each container can start."""
        with tempfile.TemporaryFile() as output:
            process = self._engine.start("up", "-d", output=output)
            try:
                while process.poll() is None:
                    state = _progress(self._check()) or _last_line(output)
                    self._pause(state)
            finally:
                docker.stop(process)
            if process.returncode:
                # Of a service that has crashed once, Compose only says that it is unhealthy.
                for each in self._check():
                    if not each.job and self._crashes(each):
                        raise self._failure(each)
                raise docker.failure("start LiteLLM", docker.tail(output))

    def _ready(self) -> None:
        with session() as client:
            while reason := unready(client.health("readiness", _HEALTH)):
                self._check()
                self._pause(reason)

    def _registered(self) -> None:
        """Wait until litellm-init has registered the models."""
        while not all(each.good for each in self._check() if each.job):
            self._pause(f"{INIT} registers the models")

    def _pause(self, reason: str) -> None:
        self._meter.note(reason)
        if not self._deadline.pause(_POLL):
            raise CommandFailed(
                f"LiteLLM is not ready after {self._deadline.limit:.0f} s: {reason}",
                "./inv litellm.logs shows why; ./inv litellm.up --timeout 900 waits longer",
            )

    def _check(self) -> list[Container]:
        """Return the containers. Raise CommandFailed with the end of its log if one has failed."""
        found = containers(self._engine)
        for each in found:
            if self._failed(each):
                raise self._failure(each)
        return found

    def _failed(self, now: Container) -> bool:
        """Whether a job has failed or a service crashes again and again, since this start began."""
        old = self._before.get(now.id)
        if now.job:
            return now.state == "exited" and now.exit_code != 0 and not (old and old.started == now.started)
        return self._crashes(now) >= CRASHES

    def _crashes(self, now: Container) -> int:
        """Return how often Docker has restarted a service since this start began."""
        old = self._before.get(now.id)
        return now.restarts - (old.restarts if old and old.restarts <= now.restarts else 0)

    def _failure(self, each: Container) -> CommandFailed:
        without = docker.mask()
        log = self._engine.call("logs", "--no-color", f"--tail={_LINES}", each.service)
        lines = [line for line in log.splitlines() if not line.startswith("Attaching to ")]
        shown = "\n".join(f"  {without(line)[:300]}" for line in lines[-_LINES:])
        what = "failed" if each.job else "crashes"
        code = f" (exit code {each.exit_code})" if each.exit_code else ""  # 0 while it runs again
        hint = "fix the cause, then run ./inv litellm.up again"
        if each.service == INIT:
            hint = "LiteLLM itself runs; correct models.yaml or litellm/.env, then run ./inv litellm.init"
        return CommandFailed(f"{each.service} {what}{code}:\n{shown}", hint)


def session() -> Client:
    """Return a session with the proxy of litellm/.env. Raise Unfit if it has no master key."""
    given = environment.read()
    return Client(given.url, given.master_key, given.secrets)


def answered(health: Health) -> str:
    """Return why a health request failed, or ''."""
    return "" if health.status == _OK else health.error or f"LiteLLM answered {health.status}"


def unready(health: Health) -> str:
    """Return why the proxy is not ready, or ''."""
    database = health.body.get("db")
    if reason := answered(health):
        return f"{reason}, database: {database}" if database else reason
    return "" if database == "connected" else f"database: {database or 'unknown'}"


def _progress(found: list[Container]) -> str:
    return ", ".join(
        f"{each.service}: {each.shown}" for each in found if not each.good and each.state != "created"
    )


def _last_line(output: IO[bytes]) -> str:
    lines = docker.mask()(docker.tail(output)).split("\n")
    return next((line.strip()[:100] for line in reversed(lines) if line.strip()), "Compose starts")
