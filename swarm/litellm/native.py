"""LiteLLM without Docker: the proxy and its database as services of this user."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from swarm.console import screen
from swarm.deadline import Deadline
from swarm.errors import CommandFailed, SwarmError, Unfit, UsageError
from swarm.files import private_dir, write_atomically
from swarm.litellm import environment, install, postgres, secrets, wanted
from swarm.litellm.start import CRASHES, session, unready
from swarm.locks import hold
from swarm.paths import litellm_dir, state_dir
from swarm.text import visible
from swarm.units import call, escaped, linger, quoted, render, require_manager, systemctl, text_of, unit_dir

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from swarm.console import Meter, Talk

__all__ = [
    "database_answers",
    "down",
    "enabled",
    "logs",
    "python",
    "recent",
    "rendered",
    "restart",
    "state",
    "up",
]

PROXY, DATABASE = "litellm.service", "litellm-db.service"
_UNITS = (DATABASE, PROXY)
_DATABASE_PORT = 18805
_LIMIT = 300.0  # seconds from the start to readiness; the first one makes the tables
_ANSWER = 20.0  # seconds for pg_isready, which itself waits 3


@dataclass(frozen=True)
class _Place:
    """Where the files are."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "postgres"

    @property
    def variables(self) -> Path:
        return self.folder / "environment"

    @property
    def applied(self) -> Path:
        return self.folder / "applied"


def _place() -> _Place:
    return _Place(state_dir() / "litellm")


def up(talk: Talk, limit: float = _LIMIT) -> bool:
    """Install LiteLLM on first use, start the services, and wait until it is ready. Return whether anything changed.

    `limit` is in seconds, from the start of the services to readiness. Raise Unfit without systemd or PostgreSQL or as
    root, Refused if the database exists and its secrets are gone, CommandFailed if the proxy does not become ready.
    """
    place = _place()
    programs = postgres.find(place.data)
    private_dir(state_dir())
    private_dir(place.folder)
    config = litellm_dir() / "config.yaml"
    if not config.exists():
        raise Unfit(f"{config} does not exist", "restore it with git, or correct SWARM_LITELLM")
    with hold(
        place.folder / "lock", waiting=lambda: talk.screen.spinner("another run starts LiteLLM; waiting")
    ):
        done, notes = linger(plan_only=False, what="services", without="use Docker: ./inv litellm.up")
        for note in notes:
            talk.warn(note)
        require_manager()
        database = f"the database in {place.data}" if place.data.exists() else ""
        done += secrets.ensure(database, removal=f"rm -r {place.data}")
        for line in done:
            talk.say(line)
        return _up(talk, place, programs, config, limit) or bool(done)


def _up(talk: Talk, place: _Place, programs: Path, config: Path, limit: float) -> bool:
    given = environment.read()
    venv = install.prepare(talk)
    password, port = given.values[secrets.PASSWORD], _port(given.values, "LITELLM_DB_PORT", _DATABASE_PORT)
    if not place.data.exists():
        with talk.step("make LiteLLM's database"):
            postgres.create(programs, place.data, password)
    text = _environment_file(_variables(place, venv, given.values, postgres.url(password, port)))
    files = rendered(place.folder, programs, venv, config, given.values)
    present = {DATABASE: files[DATABASE], PROXY: files[PROXY] + text}
    digests = {name: sha256(each.encode()).hexdigest() for name, each in present.items()}
    applied = _applied(place)
    if applied == digests and _ready():
        return False
    write_atomically(place.variables, text, mode=0o600)
    unit_dir().mkdir(parents=True, exist_ok=True)
    for name, each in files.items():
        write_atomically(unit_dir() / name, each)
    systemctl("daemon-reload")
    with talk.step("start LiteLLM", silent=True) as meter:
        deadline = Deadline(limit)
        systemctl("enable", "--quiet", *_UNITS)
        for name in _UNITS:
            systemctl("start" if applied.get(name) == digests[name] else "restart", name)
        _wait(meter, deadline)
    # Recorded last, so that the next run repeats what was interrupted.
    write_atomically(place.applied, json.dumps(digests), mode=0o600)
    talk.done(f"LiteLLM is ready at {given.url}", deadline.elapsed)
    return True


def _applied(place: _Place) -> dict[str, str]:
    """Return the digests of what the services were last started with successfully."""
    try:
        found = json.loads(text_of(place.applied) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _variables(place: _Place, venv: Path, values: Mapping[str, str], database: str) -> dict[str, str]:
    """Return the environment of the proxy. The login to GitHub Copilot is kept beside the database.

    The keys that models.yaml names are left out: they get into the database as credentials.
    """
    named = _credentials()
    return {
        **install.environment(
            venv, {name: value for name, value in values.items() if name not in named}, database
        ),
        "GITHUB_COPILOT_TOKEN_DIR": str(place.folder / "copilot"),
    }


def _credentials() -> set[str]:
    """Return the variables that models.yaml names. What is wrong with the file is reported when it is registered."""
    try:
        file = wanted.load()
    except SwarmError:
        return set()
    return {name for entry in file.credentials for name in entry.variables().values()}


def _port(values: Mapping[str, str], name: str, default: int) -> int:
    text = values.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 16:
        raise UsageError(
            f"{name} in litellm/.env is not a port number", f"set it to a number such as {default}"
        )
    return int(text)


def rendered(
    folder: Path, programs: Path, venv: Path, config: Path, values: Mapping[str, str]
) -> dict[str, str]:
    """Return the text of each unit file, by its name, without secrets. Raise UsageError for a path none can hold."""
    place = _Place(folder)
    database = {
        "postgres": _word(programs / "postgres"),
        "data": _word(place.data),
        "port": _port(values, "LITELLM_DB_PORT", _DATABASE_PORT),
    }
    proxy = {
        "directory": escaped(str(folder)),
        "environment": escaped(str(place.variables)),
        "program": _word(venv / "bin/litellm"),
        "config": _word(config.absolute()),
        "digest": sha256(config.read_bytes()).hexdigest()[:12],
        "host": _word(environment.Environment(values, "").bind),
        "port": _port(values, "LITELLM_PORT", environment.PORT),
    }
    texts = {DATABASE: database, PROXY: proxy}
    return {name: render(name, given) for name, given in texts.items()}


def _word(value: Path | str) -> str:
    """Return one word of a command line in a unit file."""
    return quoted(str(value)).replace("$", "$$")


def _environment_file(variables: Mapping[str, str]) -> str:
    """Return the variables as systemd reads them from a file."""

    def escape(value: str) -> str:
        return "".join(f"\\{letter}" if letter in '\\"`$' else letter for letter in value)

    return "".join(f'{name}="{escape(value)}"\n' for name, value in sorted(variables.items()))


def _wait(meter: Meter, deadline: Deadline) -> None:
    """Wait until the proxy is ready. Raise CommandFailed with the end of its log if it ends again and again."""
    before = _restarts()
    with session() as client:
        while reason := unready(client.health("readiness")):
            meter.note(reason)
            if _restarts() - before >= CRASHES:
                raise CommandFailed(
                    f"LiteLLM ends again and again:\n{_tail()}", "fix the cause, then run it again"
                )
            if not deadline.pause(1.0):
                raise CommandFailed(
                    f"LiteLLM is not ready after {deadline.limit:.0f} s: {reason}",
                    "./inv litellm.logs --native shows why; "
                    "./inv litellm.up --native --timeout 900 waits longer",
                )


def _restarts() -> int:
    """Return how often systemd has started the proxy again since its last regular start."""
    return int(_show(PROXY, "NRestarts").get("NRestarts") or 0)


def _ready() -> bool:
    with session() as client:
        running = all(_show(name, "ActiveState").get("ActiveState") == "active" for name in _UNITS)
        return running and not unready(client.health("readiness"))


def down(talk: Talk) -> bool:
    """Stop the services, now and after the next boot. Keep the database. Return whether anything ran."""
    present = [name for name in reversed(_UNITS) if (unit_dir() / name).exists()]
    if not present:
        return False
    require_manager()
    shown = [_show(name, "ActiveState", "UnitFileState") for name in present]
    if all(
        each.get("ActiveState") == "inactive" and each.get("UnitFileState") == "disabled" for each in shown
    ):
        return False
    with talk.step("stop LiteLLM"):
        systemctl("disable", "--quiet", *present)
        for name in present:  # the proxy before its database
            systemctl("stop", name)
    return True


def state() -> dict[str, str]:
    """Return the state of the services and 'readiness': 'ok' or the reason. It is empty without an installation."""
    if not (unit_dir() / PROXY).exists():
        return {}
    try:
        found = {name: _show(name, "ActiveState").get("ActiveState", "") for name in _UNITS}
        with session() as client:
            found |= {"url": client.url, "readiness": unready(client.health("readiness")) or "ok"}
    except SwarmError as error:
        return {"readiness": error.message}
    return found


def logs(*, follow: bool, lines: int) -> int:
    """Write the last `lines` of the services' log to stdout, without secrets. With `follow`, go on until Ctrl-C.

    Return journalctl's exit code. Raise Unfit if there is no installation.
    """
    if not (unit_dir() / PROXY).exists():
        raise Unfit("LiteLLM has no services", "./inv litellm.up --native makes them")
    hidden = environment.read().secrets
    command = ["journalctl", *(f"--user-unit={name}" for name in _UNITS), "--no-pager", f"--lines={lines}"]
    process = subprocess.Popen(
        [*command, *(["--follow"] if follow else [])], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert process.stdout is not None  # noqa: S101 - for the type checker: PIPE gives one
    try:
        with process.stdout as stream:
            for line in stream:
                screen().text([_masked(line.decode("utf-8", "replace").rstrip("\n"), hidden)])
    finally:
        process.terminate()
        process.wait()
    return max(process.returncode, 0)


def enabled() -> bool:
    """Return whether the services are meant to run: `up` enables them, `down` disables them and keeps their files."""
    return (unit_dir() / "default.target.wants" / PROXY).is_symlink()


def restart() -> None:
    """Restart the proxy. Raise SwarmError."""
    systemctl("restart", PROXY)


def database_answers() -> bool | None:
    """Return whether PostgreSQL accepts connections, or None if its programs are missing."""
    try:
        port = _port(environment.read().values, "LITELLM_DB_PORT", _DATABASE_PORT)
        program = postgres.find(_place().data) / "pg_isready"
        words = ("--quiet", "--host=127.0.0.1", f"--port={port}")
        return subprocess.run([program, *words], check=False, timeout=_ANSWER).returncode == 0
    except subprocess.TimeoutExpired:
        return False
    except (SwarmError, OSError):
        return None


def recent(minutes: int, lines: int) -> str:
    """Return at most so many lines of what the proxy logged in the last `minutes`, or '' without a journal."""
    since = f"--since=-{minutes}min"
    try:
        return call(
            "journalctl", f"--user-unit={PROXY}", "--no-pager", "--output=cat", since, f"--lines={lines}"
        )
    except SwarmError:
        return ""


def python() -> tuple[Path, dict[str, str]]:
    """Return the Python with LiteLLM, and an environment for it. Raise SwarmError."""
    from swarm.console import Talk

    venv = install.prepare(Talk(screen()))
    return venv / "bin/python", _variables(_place(), venv, environment.read().values, "postgresql://unused")


def _tail(lines: int = 15) -> str:
    """Return the end of the proxy's log, without secrets."""
    try:
        text = call("journalctl", f"--user-unit={PROXY}", "--no-pager", "--output=cat", f"--lines={lines}")
    except SwarmError as error:
        return error.message
    return _masked(visible(text), environment.read().secrets)


def _masked(text: str, hidden: Sequence[str]) -> str:
    for secret in hidden:
        text = text.replace(secret, "***")
    return text


def _show(name: str, *wanted: str) -> dict[str, str]:
    text = systemctl("show", f"--property={','.join(wanted)}", "--", name)
    return dict(line.partition("=")[::2] for line in text.splitlines())
