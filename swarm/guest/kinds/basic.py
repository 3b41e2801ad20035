"""Old home of many kinds of steps, for callers that are not moved yet."""

from __future__ import annotations

from swarm.guest.kinds.accounts import authorized_keys, group, member, user
from swarm.guest.kinds.commands import check, command
from swarm.guest.kinds.edits import block, edit, line, user_block, with_block
from swarm.guest.kinds.files import directory, file, seed, user_file
from swarm.guest.kinds.parts import content_put
from swarm.guest.kinds.settings import sysctl

__all__ = [
    "authorized_keys",
    "block",
    "check",
    "command",
    "content_put",
    "directory",
    "edit",
    "file",
    "group",
    "line",
    "member",
    "seed",
    "sysctl",
    "user",
    "user_block",
    "user_file",
    "with_block",
]
