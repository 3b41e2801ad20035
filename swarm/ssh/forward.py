"""A port of the guest that leads back to this machine, over the kept connection, so no firewall is in the way."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
from typing import TYPE_CHECKING

from swarm.errors import CommandFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.ssh.link import Link

__all__ = ["reverse"]

_PATIENCE = 30  # seconds for the guest's answer
# A port that sshd chose itself could not be canceled: ssh(1) then looks for a forward of port 0. These lie below
# Linux's range for outgoing connections.
_PORTS = range(20_000, 32_000)
_TRIES = 5
_LOOPBACK = "127.0.0.1"


@contextlib.contextmanager
def reverse(link: Link, port: int) -> Iterator[int]:
    """Lead a port on the guest's loopback to `port` on this machine's, during the block. Give the guest's port.

    The connection must be kept already: run any command first. It ends 120 s after its last command, so a long block
    must run one now and then. Raise CommandFailed if the guest refuses, as with AllowTcpForwarding no.
    """
    for _ in range(_TRIES):
        theirs = secrets.choice(_PORTS)
        done = _ask(link, "forward", theirs, port)
        if not done.returncode:
            break
    else:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise CommandFailed(
            f"{link.alias}: can't forward a port of the guest to this machine: {reason[0]}",
            "the guest's sshd_config must allow it: AllowTcpForwarding yes, PermitListen 127.0.0.1:*",
        )
    try:
        yield theirs
    finally:
        with contextlib.suppress(CommandFailed):
            _ask(link, "cancel", theirs, port)


def _ask(link: Link, order: str, theirs: int, ours: int) -> subprocess.CompletedProcess[str]:
    rule = f"{_LOOPBACK}:{theirs}:{_LOOPBACK}:{ours}"
    command = [*link.command(), "-O", order, "-R", rule, "--", link.alias]
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{link.alias}: no answer to a port forward within {_PATIENCE} s") from None
