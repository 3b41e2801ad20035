"""Run Docker and Docker Compose, and explain their errors."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from swarm.errors import CommandFailed, SwarmError, Unfit
from swarm.files import private_dir, write_atomically
from swarm.litellm import environment
from swarm.litellm.environment import MASTER, SALT
from swarm.litellm.secrets import PASSWORD, PROJECT
from swarm.paths import cache_dir, litellm_dir
from swarm.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import IO

__all__ = ["Engine", "failure", "find", "mask", "stop", "tail"]

_OLDEST = (1, 29)  # the first docker-compose that can wait for a job to succeed
_CALL = 60.0  # seconds; a healthy engine answers within one
_GRACE = 15  # seconds that a container has to shut down; PostgreSQL loses nothing even if it is killed
_LISTINGS, _PAUSE = 5, 0.2  # of containers, while some are being removed; seconds between two
_OUTPUT = 8 * 1024 * 1024  # bytes of an answer; containers have 10 KB each
_TAIL = 16 * 1024  # bytes of output that are kept for a message
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)+[-+.0-9A-Za-z]*")
_SUMMARY = "Encountered errors while"  # docker-compose's last line, which follows the reason
_NATIVE = "or run ./inv litellm.up --native, which needs no Docker"

# (part of the output, sentence, hint). The first that is found is used.
_ROWS: tuple[tuple[str, str, str], ...] = (
    ("permission denied while trying to connect", "this user may not use Docker",
     f"add the user to the group docker (sudo usermod -aG docker $USER) and log in again, {_NATIVE}"),
    ("PermissionError(13", "this user may not use Docker",
     f"add the user to the group docker (sudo usermod -aG docker $USER) and log in again, {_NATIVE}"),
    ("address already in use", "the port of LiteLLM is in use by another program",
     "stop that program, or choose another port with LITELLM_PORT in litellm/.env"),
    ("port is already allocated", "the port of LiteLLM is in use by another container",
     "stop that container, or choose another port with LITELLM_PORT in litellm/.env"),
    ("no space left on device", "the engine's disk is full", "docker system df shows what takes space"),
    ("pull access denied", "an image does not exist or is not public",
     "correct LITELLM_IMAGE or LITELLM_POSTGRES_IMAGE in litellm/.env"),
    ("manifest unknown", "an image does not exist in this version",
     "correct LITELLM_IMAGE or LITELLM_POSTGRES_IMAGE in litellm/.env"),
    ("toomanyrequests", "the registry limits how often images can be pulled", "docker login, or run it again later"),
    ("/v2/", "an image can't be pulled, because its registry is not reachable",
     "check the network, or load the images with docker load"),
    ("failed to resolve reference", "an image can't be pulled, because its registry is not reachable",
     "check the network, or load the images with docker load"),
    ("Cannot connect to the Docker daemon", "the Docker daemon is not reachable",
     f"start it (sudo systemctl start docker), or correct DOCKER_HOST, {_NATIVE}"),
    ("Couldn't connect to Docker daemon", "the Docker daemon is not reachable",
     f"start it (sudo systemctl start docker), or correct DOCKER_HOST, {_NATIVE}"),
    ("error during connect", "the Docker daemon is not reachable",
     f"start it (sudo systemctl start docker), or correct DOCKER_HOST, {_NATIVE}"),
)  # fmt: skip


@dataclass(frozen=True)
class Engine:
    """The programs that control Docker."""

    compose: tuple[str, ...]
    version: str

    def call(self, *words: str) -> str:
        """Run Compose in litellm/ and return what it prints. Raise SwarmError."""
        return _call(*self.compose, "--profile", "api", *words)

    def start(self, *words: str, output: IO[bytes] | int) -> subprocess.Popen[bytes]:
        """Start Compose in litellm/, without waiting for it, in a session of its own: Ctrl-C is ours to handle."""
        return subprocess.Popen(
            [*self.compose, "--profile", "api", *words],
            cwd=litellm_dir(),
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def fingerprint(self) -> str:
        """Return a hash of the configuration: the files and .env, as Compose understands them."""
        return hashlib.sha256(self.call("config").encode()).hexdigest()

    def replace(self, *words: str) -> NoReturn:
        """Replace this process with Compose in litellm/, which then has the terminal."""
        os.chdir(litellm_dir())
        command = [*self.compose, "--profile", "api", *words]
        os.execvpe(command[0], command, _environment())  # noqa: S606 - a list of arguments, no shell

    def containers(self) -> list[dict[str, Any]]:
        """Return what `docker inspect` says about each container of the project, running or not. Raise SwarmError."""
        for left in reversed(range(_LISTINGS)):
            ids = _call("docker", "ps", "--all", "--quiet", "--no-trunc", *self._labels()).split()
            if not ids:
                break
            try:
                found: list[dict[str, Any]] = json.loads(_call("docker", "inspect", "--type=container", *ids))
            except CommandFailed as error:
                if "no such" not in error.message.lower() or not left:
                    raise
                time.sleep(_PAUSE)  # one was removed meanwhile: list them again
            else:
                return found
        return []

    def volume(self) -> str:
        """Return the name of the database's volume, or '' if there is none."""
        label = "--filter=label=com.docker.compose.volume=litellm-db"
        return _call("docker", "volume", "ls", "--quiet", self._project(), label).strip()

    def remove(self, ids: Sequence[str]) -> None:
        """Stop and remove containers, in this order, and the project's networks, without Compose."""
        for each in ids:
            _call("docker", "stop", f"--time={_GRACE}", each, limit=_CALL + _GRACE)
        _call("docker", "rm", *ids)
        if networks := _call("docker", "network", "ls", "--quiet", self._project()).split():
            _call("docker", "network", "rm", *networks)

    def _labels(self) -> tuple[str, ...]:
        return self._project(), "--filter=label=com.docker.compose.oneoff=False"

    def _project(self) -> str:
        return f"--filter=label=com.docker.compose.project={_project()}"


def find() -> Engine:
    """Return Docker with `docker compose`, or else docker-compose 1.29 or newer. Raise Unfit.

    Raise InventoryError for a .env that can't be read: it may name another project, and Compose would quote its line.
    """
    if environment.env_file().exists():
        environment.read()
    if not shutil.which("docker"):
        raise Unfit("Docker is not installed", f"install Docker with its Compose plugin, {_NATIVE}")
    if version := _version("docker", "compose"):
        return Engine(("docker", "compose"), version)
    version = _remembered("docker-compose")
    if not version:
        raise Unfit(
            "Docker Compose is not installed",
            f"install the package docker-compose-plugin, docker-compose-v2 or docker-compose, {_NATIVE}",
        )
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < _OLDEST:
        raise Unfit(f"docker-compose {version} is too old", f"install 1.29 or newer, {_NATIVE}")
    return Engine(("docker-compose",), version)


def failure(what: str, output: str) -> SwarmError:
    """Return the error for a failed call, by what it printed."""
    for part, sentence, hint in _ROWS:
        if part in output:
            return (Unfit if "Docker" in sentence else CommandFailed)(f"{what}: {sentence}", hint)
    lines = [line for line in mask()(output).splitlines() if line.strip() and not line.startswith(_SUMMARY)]
    reason = visible(lines[-1].strip(), lines=False)[:300] if lines else "no reason given"
    return CommandFailed(f"{what} failed: {reason}", "./inv litellm.logs may show why")


def mask() -> Callable[[str], str]:
    """Return a function that removes the secrets of litellm/.env from a text."""
    try:
        hidden = environment.read().secrets
    except SwarmError:
        hidden = []

    def without(text: str) -> str:
        for secret in hidden:
            text = text.replace(secret, "***")
        return text

    return without


def tail(file: IO[bytes]) -> str:
    """Return the end of what was written to a file."""
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), _TAIL, max(0, size - _TAIL)).decode("utf-8", "replace")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End Compose, if it still runs. The containers stay as they are."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _project() -> str:
    """Return the name by which Compose groups containers and volumes."""
    try:
        own = environment.read().values.get(PROJECT)
    except SwarmError:
        own = None
    name = os.environ.get(PROJECT) or own or "swarm-litellm"
    return re.sub(r"[^-_a-z0-9]", "", name.lower())


def _environment() -> dict[str, str]:
    """Return the environment for Compose. The secrets and the port are those of .env, which swarm itself reads."""
    own = {MASTER, SALT, PASSWORD, "LITELLM_PORT", "LITELLM_BIND"}
    passed = {name: value for name, value in os.environ.items() if name not in own}
    return {**passed, PROJECT: _project(), "COMPOSE_IGNORE_ORPHANS": "true", "LC_ALL": "C.UTF-8"}


def _remembered(program: str) -> str:
    """Return the version of `program`. It is kept until the file changes: docker-compose 1.29 takes 0.4 s to say it."""
    path = shutil.which(program)
    if not path:
        return ""
    state = os.stat(path)  # noqa: PTH116 - one call for all three
    identity = [path, state.st_ino, state.st_mtime_ns, state.st_size]
    try:
        kept = private_dir(cache_dir()) / f"{program}.json"
        known, version = json.loads(kept.read_bytes())
        if known == identity and _VERSION.fullmatch(version):
            return str(version)
    except (OSError, SwarmError, ValueError, TypeError):  # nothing is kept, or it is damaged
        pass
    version = _version(program)
    with contextlib.suppress(OSError, SwarmError):
        if version:
            write_atomically(cache_dir() / f"{program}.json", json.dumps([identity, version]) + "\n")
    return version


def _version(*program: str) -> str:
    if not shutil.which(program[0]):
        return ""
    try:
        return _call(*program, "version", "--short").strip().lstrip("v")
    except SwarmError:
        return ""


def _call(*command: str, limit: float = _CALL) -> str:
    what = " ".join(_verb(command))
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as talk:
        try:
            done = subprocess.run(
                command,
                cwd=litellm_dir(),
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=talk,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unfit(
                f"{what}: the Docker daemon did not answer within {limit:.0f} s",
                "restart it: sudo systemctl restart docker",
            ) from None
        except OSError as error:
            raise Unfit(
                f"{what}: {error.strerror}: {error.filename}", "check that the program and litellm/ exist"
            ) from None
        if done.returncode:
            raise failure(what, tail(talk) or tail(output))
        return os.pread(output.fileno(), _OUTPUT, 0).decode("utf-8", "replace")


def _verb(command: Sequence[str]) -> list[str]:
    """Return the program and its subcommand, without options."""
    words = [word for word in command if not word.startswith("-") and word != "api"]
    return words[: 3 if words[1:2] == ["compose"] else 2]
