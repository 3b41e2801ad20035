"""LiteLLM in containers: start, stop, logs and state."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from swarm.console import screen
from swarm.deadline import Deadline
from swarm.errors import CommandFailed, InventoryError, SwarmError, Unfit
from swarm.files import private_dir, write_atomically
from swarm.inventory.document import short
from swarm.litellm import engine as docker
from swarm.litellm import environment, secrets
from swarm.litellm.client import Client
from swarm.litellm.containers import Container, containers
from swarm.litellm.start import Start, answered, session, unready
from swarm.locks import hold
from swarm.paths import litellm_dir, state_dir

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.console import Talk
    from swarm.litellm.engine import Engine

__all__ = ["LIMIT", "State", "down", "elsewhere", "logs", "state", "up"]

LIMIT = 300.0  # seconds; a start takes 30, a database after a crash or a migration may take minutes
_LINE = 64 * 1024  # bytes of a line of a log
_ENDING = 10.0  # seconds that Compose has to end after its last line of a log


@dataclass(frozen=True)
class State:
    """The containers, and what the proxy says about itself: '' for yes, else the reason."""

    containers: list[Container]
    url: str
    dead: str
    unready: str

    @property
    def ready(self) -> bool:
        """Whether the proxy answers requests and reaches its database."""
        return not self.unready

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain data."""
        return {
            "url": self.url,
            "alive": not self.dead,
            "ready": self.ready,
            "reason": self.dead or self.unready or None,
            "containers": [each.to_json() for each in self.containers],
        }


def up(talk: Talk, limit: float = LIMIT) -> bool:
    """Make litellm/.env on first use, start the containers, and wait until LiteLLM is ready and its models are there.

    `limit` is in seconds, for everything together. Return whether anything changed. Raise Unfit, Refused if the
    database exists but its salt key is gone, and CommandFailed if a container fails or the time is up.
    """
    deadline = Deadline(limit)
    engine = docker.find()
    _check_files()
    try:
        with hold(
            private_dir(state_dir()) / "litellm-start.lock",
            waiting=lambda: talk.screen.spinner("another run starts LiteLLM; waiting"),
            deadline=deadline,
        ):
            return _up(engine, talk, deadline)
    except TimeoutError as error:
        raise CommandFailed(str(error), "wait until the other run has ended") from None


def _up(engine: Engine, talk: Talk, deadline: Deadline) -> bool:
    volume = engine.volume()
    made = secrets.ensure(
        f"the database volume {volume}" if volume else "", removal=f"docker volume rm {volume}"
    )
    for line in made:
        talk.say(line)
    _check_dollars(engine)
    before = containers(engine)
    if _settled(engine, before):
        return bool(made)
    with talk.step("start LiteLLM", silent=True) as meter:
        fingerprint = engine.fingerprint()
        Start(engine, before, deadline, meter).run()
    write_atomically(_record(), _settled_text(fingerprint, containers(engine)), mode=0o600)
    talk.done(f"LiteLLM is ready at {environment.read().url}", deadline.elapsed)
    return True


def down(talk: Talk) -> bool:
    """Stop and remove the containers. Keep the database. Return whether there were any."""
    engine = docker.find()
    found = containers(engine)
    if not found:
        return False
    with talk.step("stop LiteLLM"):
        if environment.env_file().exists():
            _compose_down(engine)
        else:  # Compose refuses to work without it
            engine.remove([each.id for each in found])
    return True


def _compose_down(engine: Engine) -> None:
    with tempfile.TemporaryFile() as output:
        process = engine.start("down", output=output)
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"the containers did not stop within {LIMIT:.0f} s", "run it again") from None
        finally:
            docker.stop(process)
        if process.returncode:
            raise docker.failure("stop LiteLLM", docker.tail(output))


def logs(*, follow: bool, lines: int) -> int:
    """Write the last `lines` of each container's log to stdout, without secrets. With `follow`, go on until Ctrl-C.

    Return Compose's exit code. Raise Unfit if there are no containers, and CommandFailed if Compose does not end.
    """
    engine = docker.find()
    if not containers(engine):
        raise Unfit("LiteLLM has no containers", "./inv litellm.up starts them")
    environment.read()  # Compose refuses to work without it
    without = docker.mask()
    words = ["logs", "--no-color", f"--tail={lines}", *(["--follow"] if follow else [])]
    process = engine.start(*words, output=subprocess.PIPE)
    assert process.stdout is not None  # noqa: S101 - for the type checker: PIPE gives one
    with process.stdout as stream:
        try:
            while line := stream.readline(_LINE):
                screen().text([without(line.decode("utf-8", "replace").rstrip("\n"))])
            process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            raise CommandFailed(
                "Docker Compose did not end after the last line of the log",
                "if this happens again, restart the Docker daemon: sudo systemctl restart docker",
            ) from None
        finally:
            docker.stop(process)
    return process.returncode


def state() -> State:
    """Return the state of the containers. Raise Unfit if there is no Docker."""
    return _asked(containers(docker.find()))


def elsewhere() -> State | None:
    """Return the state of a proxy that swarm does not run, or None if litellm/.env names none in LITELLM_URL."""
    try:
        named = environment.read().values.get("LITELLM_URL")
    except SwarmError:
        return None
    return _asked([]) if named else None


def _asked(found: list[Container]) -> State:
    try:
        given = environment.read()
        with Client(given.url, given.values.get(environment.MASTER, "")) as client:
            alive, ready = client.health("liveliness"), client.health("readiness")
    except SwarmError as error:
        return State(found, "", error.message, error.message)
    return State(found, given.url, answered(alive), unready(ready))


def _check_files() -> None:
    """Raise InventoryError if a file is missing that a container mounts: Docker would put a directory there."""
    for name in ("compose.yaml", "config.yaml", "models.yaml"):
        path = litellm_dir() / name
        if not path.is_file():
            raise InventoryError(f"{short(path)} does not exist", f"git checkout {short(path)} restores it")


def _check_dollars(engine: Engine) -> None:
    """Raise InventoryError for a value that Compose would change on its way, while swarm itself takes it literally.

    The salt key and the database's password are left alone, because what Compose has made of them is in use.
    """
    old = engine.version.startswith("1.")
    found = environment.expanded(old=old)
    if not found:
        return
    from swarm.litellm.wanted import load

    names = {environment.MASTER, "LITELLM_BIND", "LITELLM_PORT"}
    with contextlib.suppress(SwarmError):  # litellm-init says what is wrong with models.yaml
        names |= {name for entry in load().credentials for name in entry.variables().values()}
    for name in sorted(names & found.keys() - {environment.SALT, secrets.PASSWORD}):
        what, hint = "$", "put the value in single quotes"
        if old:
            what = "${…}"
            hint = f"docker-compose {engine.version} does so in quotes too: use another value, or a newer Compose"
        where = f"{short(environment.env_file())}:{found[name]}"
        raise InventoryError(f"{where}: Docker Compose would replace the {what} in {name}", hint)


def _record() -> Path:
    """Return the file that says which containers the last successful start left, by which configuration.

    Compose's own label config-hash can't tell: `docker compose config --hash` computes another one.
    """
    return state_dir() / "litellm.json"


def _settled_text(fingerprint: str, found: list[Container]) -> str:
    return json.dumps({"configuration": fingerprint, "containers": sorted(each.id for each in found)}) + "\n"


def _settled(engine: Engine, found: list[Container]) -> bool:
    """Whether each container does what it is for, by the configuration of now, and LiteLLM is ready."""
    if not found or not all(each.good for each in found):
        return False
    try:
        recorded = _record().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    if recorded != _settled_text(engine.fingerprint(), found):
        return False
    with session() as client:
        return not unready(client.health("readiness"))
