"""User units of systemd: where their files are, how text is written into them, and calls of systemctl."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.deadline import Deadline
from swarm.errors import CommandFailed, SwarmError, Unfit, UsageError
from swarm.paths import ROOT, config_dir, runtime_dir, user_name
from swarm.text import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "call",
    "escaped",
    "linger",
    "properties",
    "quoted",
    "render",
    "require_manager",
    "systemctl",
    "text_of",
    "unit_dir",
]

_LINGER = Path("/var/lib/systemd/linger")
_MANAGER = 60.0  # seconds until a user's manager has started
_CALL = 120.0  # seconds for one call of systemctl


def render(name: str, values: Mapping[str, object]) -> str:
    """Return the text of the unit file `name`, from systemd/NAME.j2."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(ROOT / "systemd"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - what is written is not HTML
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return templates.get_template(f"{name}.j2").render(values)


def properties(text: str) -> dict[str, dict[str, str]]:
    """Return the properties of each unit, by its name, from the output of `systemctl show`."""
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in text.split("\n\n")]
    return {block["Id"]: block for block in blocks if "Id" in block}


def escaped(text: str) -> str:
    """Return text as it stands in a unit file. Raise UsageError if none can hold it."""
    if not text.isprintable():
        raise UsageError(
            f"{visible(text, lines=False)} can't be written to a unit file: it contains control characters"
        )
    return text.replace("%", "%%")


def quoted(text: str) -> str:
    """Return text as one quoted word of a unit file. Raise UsageError if none can hold it."""
    return '"' + escaped(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def unit_dir() -> Path:
    """Return the directory of the user's own units."""
    return config_dir() / "systemd" / "user"


def text_of(path: Path) -> str | None:
    """Return the text of a file, or None if it does not exist."""
    try:
        return path.read_text(
            encoding="utf-8", errors="replace"
        )  # a damaged file differs, and is written again
    except FileNotFoundError:
        return None


def linger(
    *, plan_only: bool, what: str = "timers", without: str = "use cron: inv backup"
) -> tuple[list[str], list[str]]:
    """Let the user's manager run without a login. Return the change, and a note if that is not permitted."""
    user = user_name()
    if (_LINGER / user).exists():
        return [], []
    change = [f"let {what} run while {user} is not logged in (loginctl enable-linger {user})"]
    if plan_only:
        return change, []
    if not shutil.which("loginctl"):
        raise Unfit(f"this computer has no systemd, which would start the {what}", without)
    try:
        call("loginctl", "--no-ask-password", "enable-linger", user)
    except CommandFailed as error:
        note = (
            f"the {what} run only while {user} is logged in, because lingering is not permitted "
            f"({error.message}); have root run: loginctl enable-linger {user}"
        )
        return [], [note]
    waiting = Deadline(_MANAGER)
    while not (_runtime() / "systemd" / "private").exists() and waiting.pause(0.1):
        pass
    return change, []


def _runtime() -> Path:
    return runtime_dir() or Path(f"/run/user/{os.getuid()}")


def require_manager() -> None:
    """Raise Unfit unless the user's manager runs."""
    try:
        systemctl("show", "--property=Version")
    except CommandFailed as error:
        user = user_name()
        raise Unfit(
            f"no systemd user manager runs for {user}: {error.message}",
            f"loginctl enable-linger {user} starts one; in a container or without systemd, use cron",
        ) from None


def systemctl(*words: str) -> str:
    """Call systemctl for the user's manager. Return its output. Raise CommandFailed, or Unfit without systemd."""
    return call("systemctl", "--user", "--no-pager", *words)


def call(*command: str) -> str:
    """Run a program that reaches the user's manager. Return its output. Raise CommandFailed or Unfit."""
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(_runtime()), "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_CALL,
            check=False,
        )
    except FileNotFoundError:
        raise Unfit(
            f"the program {command[0]} is missing",
            "install systemd; without it, use cron for backups and Docker for LiteLLM",
        ) from None
    except subprocess.TimeoutExpired:
        raise SwarmError(f"{command[0]} did not answer within {_CALL:.0f} s") from None
    if done.returncode:
        reason = visible(done.stderr.decode("utf-8", "replace").strip(), lines=False)[:300]
        verb = next(
            (f" {word}" for word in command[1:] if not word.startswith("-")), ""
        )  # journalctl has none
        raise CommandFailed(f"{command[0]}{verb} failed: {reason or f'exit code {done.returncode}'}")
    return done.stdout.decode("utf-8", "replace")
