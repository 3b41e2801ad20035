"""User units of systemd: write their files, and call systemctl."""

from __future__ import annotations

import getpass
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.errors import CommandFailed, SwarmError, Unfit, UsageError
from swarm.paths import ROOT
from swarm.text import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "call",
    "escaped",
    "folder",
    "properties",
    "quoted",
    "render",
    "require_manager",
    "runtime",
    "systemctl",
    "text_of",
]

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


def escaped(text: str) -> str:
    """Return `text` for a unit file, with % doubled. Raise UsageError if no unit file can hold it."""
    if not text.isprintable():
        raise UsageError(
            f"{visible(text, lines=False)} can't stand in a unit file: it has control characters"
        )
    return text.replace("%", "%%")


def quoted(text: str) -> str:
    """Return `text` as one quoted word of a unit file."""
    return '"' + escaped(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def properties(text: str) -> dict[str, dict[str, str]]:
    """Return the properties of each unit, by its name, from the output of `systemctl show`."""
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in text.split("\n\n")]
    return {block["Id"]: block for block in blocks if "Id" in block}


def folder() -> Path:
    """Return the directory of this user's units."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".config") / "systemd" / "user"


def text_of(path: Path) -> str | None:
    """Return the content of a file, or None if it does not exist."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def runtime() -> Path:
    """Return the directory of this user's manager."""
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")


def require_manager() -> None:
    """Raise Unfit if no systemd manager runs for this user."""
    try:
        systemctl("show", "--property=Version")
    except CommandFailed as error:
        user = getpass.getuser()
        raise Unfit(
            f"no systemd user manager runs for {user}: {error.message}",
            f"loginctl enable-linger {user} starts one; in a container or without systemd, use cron",
        ) from None


def systemctl(*words: str) -> str:
    """Call `systemctl --user` and return what it prints. Raise CommandFailed, SwarmError or Unfit."""
    return call("systemctl", "--user", "--no-pager", *words)


def call(*command: str) -> str:
    """Run a program of systemd and return what it prints. Raise CommandFailed, SwarmError or Unfit."""
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime()), "LC_ALL": "C.UTF-8"}
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
            f"the program {command[0]} is missing", "timers need systemd; without it, use cron"
        ) from None
    except subprocess.TimeoutExpired:
        raise SwarmError(f"{command[0]} did not answer within {_CALL:.0f} s") from None
    if done.returncode:
        reason = visible(done.stderr.decode("utf-8", "replace").strip(), lines=False)[:300]
        verb = next(word for word in command[1:] if not word.startswith("-"))
        raise CommandFailed(f"{command[0]} {verb} failed: {reason or f'exit code {done.returncode}'}")
    return done.stdout.decode("utf-8", "replace")
