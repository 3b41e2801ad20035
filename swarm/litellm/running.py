"""Find out what runs the proxy, and control it: containers, services of this user, or something else."""

from __future__ import annotations

import os
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from swarm.errors import CommandFailed, SwarmError, Unfit, UsageError
from swarm.litellm import engine as docker
from swarm.litellm import native
from swarm.litellm.containers import containers
from swarm.litellm.runner import Foreign

if TYPE_CHECKING:
    from typing import NoReturn

    from swarm.litellm.engine import Engine
    from swarm.litellm.runner import Runner

__all__ = ["LOGIN", "login", "runner", "since"]

_LINES = 2000  # of the log
_TIME = re.compile(r"\b(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)")
# LiteLLM's own login: it shows a code and an address, and waits for a minute until the code was entered there.
LOGIN = """
import os, sys
folder = os.environ["GITHUB_COPILOT_TOKEN_DIR"]
os.umask(0o077)
os.makedirs(folder, 0o700, exist_ok=True)
os.chmod(folder, 0o700)
from litellm.llms.github_copilot.authenticator import Authenticator
login = Authenticator()
there = os.path.exists(login.access_token_file)
try:
    login.get_access_token()
except Exception as error:
    sys.exit(f"error: the login to GitHub Copilot failed: {error}")
if not os.path.exists(login.access_token_file):
    sys.exit(f"error: the token can't be written to {folder}")
print("nothing to do: logged in already" if there else "logged in to GitHub Copilot")
"""


class _Containers:
    """The proxy in a container."""

    name = "Docker Compose"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def restart(self) -> None:
        """Restart the container. Raise SwarmError."""
        self._engine.call("restart", "litellm")

    def database_answers(self) -> bool | None:
        """Ask PostgreSQL in its own container."""
        try:
            self._engine.call("exec", "-T", "litellm-db", "pg_isready", "--quiet", "--host=127.0.0.1")
        except CommandFailed:
            return False
        except SwarmError:  # Docker itself does not answer
            return None
        return True

    def recent(self, minutes: int) -> str:
        """Return the end of the container's log, without secrets."""
        text = self._engine.call("logs", "--no-color", "--timestamps", f"--tail={_LINES}", "litellm")
        return since(docker.mask()(text), datetime.now(UTC) - timedelta(minutes=minutes))


class _Services:
    """The proxy as a service of this user."""

    name = "systemd"

    def restart(self) -> None:
        """Restart the service. Raise SwarmError."""
        native.restart()

    def database_answers(self) -> bool | None:
        """Ask PostgreSQL at its socket."""
        return native.database_answers()

    def recent(self, minutes: int) -> str:
        """Return the end of the service's log, without secrets."""
        return docker.mask()(native.recent(minutes, _LINES))


def runner() -> Runner:
    """Return what runs the proxy: services if they are enabled, else containers if there are any."""
    if native.enabled():
        return _Services()
    try:
        engine = docker.find()
        if containers(engine):
            return _Containers(engine)
    except SwarmError:
        pass  # no Docker, or it does not answer: then it does not run the proxy
    return Foreign()


def login(provider: str) -> NoReturn:
    """Replace this process with LiteLLM's interactive login. Raise UsageError, or Unfit if nothing runs LiteLLM."""
    if provider != "copilot":
        raise UsageError(
            f"there is no login for {provider!r}", "the one that exists: ./inv litellm.login copilot"
        )
    if native.enabled():
        program, environment = native.python()
        os.execve(program, [str(program), "-c", LOGIN], environment)  # noqa: S606 - a list of arguments, no shell
    engine = docker.find()
    if not containers(engine):
        raise Unfit("LiteLLM has no containers", "./inv litellm.up starts them")
    terminal = [] if sys.stdin.isatty() else ["-T"]
    engine.replace("run", "--rm", "--no-deps", *terminal, "--entrypoint", "python", "litellm", "-c", LOGIN)


def since(text: str, start: datetime) -> str:
    """Return the lines of a log with timestamps that are not older than `start`, and those without a timestamp."""
    lines = []
    for line in text.splitlines():
        found = _TIME.search(line)
        if not found or datetime.fromisoformat(found[1]).replace(tzinfo=UTC) >= start:
            lines.append(line)
    return "\n".join(lines)
