"""The directories on the control machine.

SWARM_HOSTS, SWARM_MIRRORS, SWARM_BACKUPS, SWARM_LITELLM, SWARM_STATE and SWARM_CACHE override them, and SWARM_INSTANCES
the one file outside them. Tests use that to stay out of the user's own directories.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.errors import Unfit

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ROOT",
    "backups_dir",
    "cache_dir",
    "config_dir",
    "expanded",
    "home",
    "hosts_dir",
    "instances_file",
    "litellm_dir",
    "mirrors_dir",
    "runtime_dir",
    "shares_dir",
    "state_dir",
    "user_name",
]

ROOT = Path(__file__).resolve().parent.parent


def hosts_dir() -> Path:
    """Return the directory of the host files and the pinned host keys."""
    return Path(os.environ.get("SWARM_HOSTS") or ROOT / "hosts")


def mirrors_dir() -> Path:
    """Return the directory of the mirrors: one subdirectory for each guest's OpenClaw state."""
    return Path(os.environ.get("SWARM_MIRRORS") or ROOT / "openclaw")


def backups_dir() -> Path:
    """Return the directory of archives for hosts whose file names no destination."""
    return Path(os.environ.get("SWARM_BACKUPS") or ROOT / "backups")


def litellm_dir() -> Path:
    """Return the directory of LiteLLM's files: compose.yaml, config.yaml, models.yaml and .env."""
    return Path(os.environ.get("SWARM_LITELLM") or ROOT / "litellm")


def state_dir() -> Path:
    """Return the directory of what must survive: swarm's SSH key and the embedded hypervisor's disks.

    It is SWARM_STATE, or else `swarm` in XDG_STATE_HOME (default: ~/.local/state). Raise Unfit if there is no home.
    """
    if given := os.environ.get("SWARM_STATE"):
        return Path(given)
    import platformdirs  # takes milliseconds, which a command that needs no state is spared

    return _absolute(platformdirs.user_state_path, "SWARM_STATE")


def shares_dir() -> Path:
    """Return the directory of the shares that swarm makes. Raise Unfit if there is no home.

    A guest can put a program there that runs as root for whoever starts it. So it is in the state directory, which
    other users can't enter. It is not in the project, where a planted .git/config would run programs.
    """
    return state_dir() / "shares"


def cache_dir() -> Path:
    """Return the directory of what can be downloaded or built again: images.

    It is SWARM_CACHE, or else `swarm` in XDG_CACHE_HOME (default: ~/.cache). Raise Unfit if there is no home.
    """
    if given := os.environ.get("SWARM_CACHE"):
        return Path(given)
    import platformdirs

    return _absolute(platformdirs.user_cache_path, "SWARM_CACHE")


def config_dir() -> Path:
    """Return XDG_CONFIG_HOME (default: ~/.config). Raise Unfit if there is no home."""
    import platformdirs

    return _absolute(lambda _: platformdirs.user_config_path(), "XDG_CONFIG_HOME")


def runtime_dir() -> Path | None:
    """Return the user's own directory for sockets, or None: XDG_RUNTIME_DIR, or else systemd's default for the user.

    After su or sudo, XDG_RUNTIME_DIR may be another user's, so a directory counts only if it belongs to this user and
    others cannot write to it.
    """
    user = os.getuid()
    for name in (os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{user}"):
        with contextlib.suppress(OSError, ValueError):
            state = os.stat(name)  # noqa: PTH116 - follows links, and refuses "" and null bytes with an error
            own = stat.S_ISDIR(state.st_mode) and state.st_uid == user and not state.st_mode & 0o022
            if own and name.startswith("/"):
                return Path(name)
    return None


def instances_file() -> Path:
    """Return the list of OpenClaw instances that swarm shares with other programs.

    It is SWARM_INSTANCES, or else ~/.claude/state/openclaw-instances.json. Raise Unfit if there is no home.
    """
    if given := os.environ.get("SWARM_INSTANCES"):
        return Path(given).absolute()
    return _absolute(
        lambda _: Path.home() / ".claude" / "state" / "openclaw-instances.json", "SWARM_INSTANCES"
    )


def home() -> Path:
    """Return the user's home directory. Raise Unfit if there is none."""
    try:
        return Path.home()
    except RuntimeError:
        raise Unfit("this user has no home directory", "set HOME") from None


def expanded(path: Path) -> Path:
    """Return `path` with ~ and ~USER replaced by the home directory. Raise Unfit if there is no such home directory."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise Unfit(f"{path}: {path.parts[0]} has no home directory", "write an absolute path") from None


def user_name() -> str:
    """Return the name of the user of this process, or its number if it has no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _absolute(find: Callable[[str], Path], variable: str) -> Path:
    try:
        path = find("swarm")
    except RuntimeError:  # neither HOME nor the user database has a home directory
        path = Path()
    if not path.is_absolute():
        raise Unfit(
            f"{variable}: no default, because this user has no home directory", f"set HOME, or set {variable}"
        )
    return path
