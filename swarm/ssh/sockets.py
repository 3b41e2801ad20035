"""Where the control sockets of kept connections are: in a directory that only its owner can enter."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from swarm.errors import Unfit
from swarm.files import private_dir
from swarm.paths import runtime_dir, state_dir

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["socket_dir", "socket_name"]

_SOCKET_PATH = 107  # bytes that Linux allows in a socket's path
_NAME = 20  # characters of our names
_SOCKET_NAME = _NAME + 17  # and the random suffix that ssh adds while it creates the socket


def socket_name(digest: bytes) -> str:
    """Return the name of a socket, made from a digest of what it belongs to."""
    return digest.hex()[:_NAME]


def socket_dir() -> Path:
    """Return the directory for the sockets, which only its owner can enter. Raise Unfit if there is none.

    It is in the user's runtime directory. Without one it is in the state directory: in /tmp, another user could have
    taken its name.
    """
    runtime = runtime_dir()
    longest = _SOCKET_PATH - len("/swarm/") - _SOCKET_NAME
    if runtime and len(os.fsencode(runtime)) <= longest:
        folder = private_dir(runtime / "swarm")
    else:
        folder = private_dir(state_dir() / "run").absolute()
        if len(os.fsencode(folder)) + 1 + _SOCKET_NAME > _SOCKET_PATH:
            raise Unfit(
                f"the path {folder} is too long for a Unix socket",
                "set SWARM_STATE to a directory with a shorter path",
            )
    state = folder.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or state.st_mode & 0o077:
        raise Unfit(f"{folder} belongs to another user, or other users can enter it", f"remove {folder}")
    return folder
