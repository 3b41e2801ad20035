"""SSH to guests by paramiko."""

from __future__ import annotations

import socket
import subprocess
from threading import Thread
from typing import TYPE_CHECKING

from swarm.errors import Unreachable
from swarm.ssh.config import PORT, Target, config_path, jump_command
from swarm.ssh.keys import pinned

if TYPE_CHECKING:
    from fabric import Connection
    from paramiko import PKey

__all__ = ["KeyRefused", "LoginRefused", "PortClosed", "connect", "open_socket", "read_banner"]

_FAR = 10  # seconds that the way to a remote hypervisor may take, however little patience there is with its guest


class PortClosed(Unreachable):
    """Nobody answers at the guest's SSH port yet."""


class KeyRefused(Unreachable):
    """The guest shows another host key than the pinned one."""


class LoginRefused(Unreachable):
    """The guest does not accept our key."""


def open_socket(target: Target, limit: float) -> socket.socket:
    """Return a TCP connection to the guest's SSH port, made within `limit` seconds. Raise OSError."""
    if target.embedded:
        return target.embedded.connect(target.address, target.port, limit)
    if target.jump:
        return _through(
            [
                *jump_command(target.jump),
                "-o",
                f"ConnectTimeout={max(_FAR, round(limit))}",
                "-W",
                f"[{target.address}]:{target.port}",
            ]
        )
    made = socket.create_connection((target.address, target.port), timeout=limit)
    made.settimeout(None)
    made.setsockopt(
        socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
    )  # paramiko sets none, and stalls 40 ms at a time without
    return made


def read_banner(target: Target, limit: float) -> str:
    """Return what the guest's SSH server says first, like SSH-2.0-OpenSSH_9.2. Raise PortClosed if none does within `limit` seconds."""
    try:
        with open_socket(target, limit) as made:
            made.settimeout(limit)
            banner = made.recv(256)
    except OSError as error:
        raise PortClosed(
            f"{target.name} does not answer at {target.place}: {error.strerror or error}"
        ) from None
    if not banner.startswith(b"SSH-"):
        raise PortClosed(f"{target.name} does not answer at {target.place} yet")
    return banner.splitlines()[0].decode(errors="replace")


def connect(target: Target, limit: float, *, reach: float | None = None) -> Connection:
    """Return an open Fabric connection to the guest, each stage of which may take `limit` seconds.

    `reach` is for the first stage alone, the TCP connection, in seconds. It is short where somebody waits for
    a guest that boots: a SYN that was lost is repeated after 1, 3, 7 and 15 seconds only, so a new try is
    quicker than patience.

    Raise PortClosed, KeyRefused or LoginRefused. Fabric on its own accepts any host key; here it is given the
    pinned one and a policy that rejects every other.
    """
    import logging

    import paramiko
    from fabric import Config, Connection

    # What goes wrong is raised. Left alone, paramiko's thread would also log it, with a traceback, for each
    # try of one who waits.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    keys: dict[str, object] = {"timeout": limit, "banner_timeout": limit, "auth_timeout": limit}
    if target.identity:
        keys |= {"key_filename": str(target.identity), "allow_agent": False, "look_for_keys": False}
    key = _pinned_key(target)
    config = Config(lazy=True)  # a person's own ~/.ssh/config must not bend what happens here
    connection = Connection(
        target.address, user=target.user, port=target.port, connect_kwargs=keys, config=config
    )
    assert connection.client is not None  # noqa: S101 - Fabric makes it with the connection; this tells the type checker
    connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
    name = (
        target.address if target.port == PORT else f"[{target.address}]:{target.port}"
    )  # what paramiko looks for
    connection.client.get_host_keys().add(name, key.get_name(), key)
    try:
        keys["sock"] = open_socket(target, limit if reach is None else reach)
        connection.open()
    except paramiko.BadHostKeyException:
        raise KeyRefused(
            f"{target.name} shows another host key than the one pinned in {target.known_hosts}",
            "another machine answers at this address, or the guest's host key was changed; nothing was sent to it. "
            f"If you changed it: ./inv pin --host {target.name}",
        ) from None
    except paramiko.AuthenticationException:
        raise _login_refused(target) from None
    except (OSError, EOFError, paramiko.SSHException) as error:
        if "No authentication methods available" in str(
            error
        ):  # there is no private key at all that could be offered
            raise _login_refused(target) from None
        raise PortClosed(f"{target.name} does not answer at {target.place}: {error}") from None
    return connection


def _pinned_key(target: Target) -> PKey:
    import base64

    import paramiko
    from paramiko.pkey import UnknownKeyType

    line = pinned(target.known_hosts)
    if line is None:
        raise KeyRefused(
            f"{target.name} has no pinned host key in {target.known_hosts}",
            "without it nobody can tell the guest from another machine, so nothing is sent; provision pins it again",
        )
    kind, _, key = line.partition(" ")
    try:
        return paramiko.PKey.from_type_string(kind, base64.b64decode(key))
    except (ValueError, paramiko.SSHException, UnknownKeyType):
        hint = "remove the file and run provision again, which pins the key that the guest was made with"
        raise KeyRefused(f"{target.known_hosts} does not hold an SSH public key", hint) from None


def _login_refused(target: Target) -> LoginRefused:
    hint = f"ssh -F {config_path()} -v {target.name} shows which keys are offered"
    return LoginRefused(f"{target.name} does not accept the key for {target.user}", hint)


def _through(argv: list[str]) -> socket.socket:
    """A socket to what a program connects its standard input and output with."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            argv, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.DEVNULL
        )
    Thread(
        target=process.wait, daemon=True
    ).start()  # it ends when our end is closed; somebody must take notice
    return ours
