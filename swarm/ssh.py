"""SSH to guests: keys, pinned host keys, one generated ssh_config that ssh, rsync, testinfra and Fabric all go by.

A guest whose host key is not the pinned one is never talked to, by none of them.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from swarm.errors import Unreachable
from swarm.paths import ROOT, private_dir, state_dir
from swarm.quoting import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fabric import Connection
    from paramiko import PKey

    from swarm.embedded import Embedded

__all__ = [
    "KeyRefused",
    "LoginRefused",
    "PortClosed",
    "Target",
    "argv",
    "config_path",
    "connect",
    "forget",
    "keypair",
    "own_key",
    "part_path",
    "pin",
    "pinned",
    "quote",
    "read_banner",
    "write_atomically",
    "write_config",
]

PORT = 22
_FAR = 10  # seconds that the way to a remote hypervisor may take, however little patience there is with its guest


class PortClosed(Unreachable):
    """Nobody answers at the guest's SSH port yet."""


class KeyRefused(Unreachable):
    """The guest shows another host key than the pinned one."""


class LoginRefused(Unreachable):
    """The guest does not accept our key."""


@dataclass(frozen=True)
class Target:
    """How to reach one guest.

    `embedded` is the private hypervisor it lives in, `jump` the remote one as a destination of ssh (user@machine or
    ssh://user@machine:port); at most one is given. `near` says that the guest is on this very machine. `identity` is the
    private key to log in with; None leaves the choice to ssh's own defaults and agent. The host key is looked up by `name`,
    so a guest keeps it when its address changes.
    """

    name: str
    address: str
    known_hosts: Path
    user: str = "root"
    identity: Path | None = None
    embedded: Embedded | None = None
    jump: str | None = None
    port: int = PORT
    near: bool = False

    @property
    def sheltered(self) -> bool:
        """Whether nobody on a network can record the connection as such: it stays on this machine, or goes inside another one of SSH."""
        return self.near or bool(self.embedded or self.jump)

    @property
    def place(self) -> str:
        """Address and port, for messages."""
        return f"{self.address}:{self.port}"


def keypair(comment: str) -> tuple[str, str]:
    """Return a new ed25519 key as (private key in OpenSSH's format, public key line)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return private, f"{public} {comment}"


def own_key() -> Path:
    """Return the private key that swarm logs in with where a host file names none, made at first use; `.pub` is beside it."""
    import fcntl

    folder = private_dir(private_dir(state_dir()) / "ssh")
    path = folder / "id_ed25519"
    with (folder / "key.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            private, public = keypair("swarm")
            write_atomically(folder / "id_ed25519.pub", public + "\n")
            write_atomically(path, private, mode=0o600)
    return path


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file so that it is there whole or not at all, and at no moment readable by more than `mode` allows."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # a name of its own, readable by its owner alone
    scratch = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        scratch.replace(path)
    except BaseException:
        scratch.unlink()
        raise


def pin(path: Path, names: Sequence[str], public_key: str) -> None:
    """Pin a guest's host key: from now on `path` is the only key that is accepted for `names`."""
    kind, key = public_key.split()[:2]
    write_atomically(path, f"{','.join(names)} {kind} {key}\n")


def pinned(path: Path) -> str | None:
    """Return the pinned key as "type key", or None. Comments are skipped, and of several keys the first counts."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    words = next((line.split() for line in lines if line.strip() and not line.startswith("#")), [])
    return " ".join(words[1:3]) or None


def config_path() -> Path:
    """Return the generated ssh_config: `ssh -F` it, and every host of swarm has its name."""
    return state_dir() / "ssh" / "config"


def part_path(name: str) -> Path:
    """Return the ssh_config of one host alone, where nothing changes when another host does."""
    return config_path().parent / "hosts" / f"{name}.conf"


def write_config(target: Target) -> Path:
    """Write the part of one host, and the file that holds them all; return that file's path.

    A path with an environment variable's look, like ${HOME}, is the one thing that ssh_config has no way to quote.
    """
    folder = private_dir(private_dir(state_dir()) / "ssh")
    private_dir(folder / "hosts")
    lines = [
        f"Host {target.name}",
        f"    HostName {target.address}",
        f"    Port {target.port}",
        f"    HostKeyAlias {target.name}",
        f"    User {target.user}",
        f"    UserKnownHostsFile {_word(target.known_hosts)}",
        "    GlobalKnownHostsFile /dev/null",
        "    StrictHostKeyChecking yes",
        "    UpdateHostKeys no",
        "    HostKeyAlgorithms ssh-ed25519",
        "    PasswordAuthentication no",
        "    KbdInteractiveAuthentication no",
        "    ConnectTimeout 10",
        "    ServerAliveInterval 15",
    ]
    if target.identity:
        lines += [f"    IdentityFile {_word(target.identity)}", "    IdentitiesOnly yes"]
    if target.sheltered:
        # Against those who record what is sent until there are quantum computers, OpenSSH before 9.9 has only Streamlined NTRU Prime, which
        # is 80 ms of work for each connection. Here nobody can record. Where both ends know ML-KEM, which is cheap, they use that.
        lines.append("    KexAlgorithms -sntrup761*")
    if target.jump:  # not ProxyJump, which would read this file, and not the person's own, where the way there is described
        lines.append(f"    ProxyCommand {quote(_jump(target.jump)).replace('%', '%%')} -W [%h]:%p")
    else:
        way = ["swarm/embedded/gate.py", str(target.embedded.door)] if target.embedded else ["swarm/dial.py"]
        command = quote([sys.executable, "-I", "-S", str(ROOT / way[0]), *way[1:]])
        lines += [f"    ProxyCommand {command.replace('%', '%%')} %h %p", "    ProxyUseFdpass yes"]
    part = "\n".join(lines) + "\n"
    if not (_holds(part_path(target.name), part) and _holds(config_path(), part)):
        _combine(target.name, part)
    return config_path()


def forget(name: str) -> None:
    """Take a host out of the generated ssh_config."""
    if part_path(name).exists():
        _combine(name, None)


def _combine(name: str, part: str | None) -> None:
    """Write or remove one host's part and put all parts together: Include would take a path's brackets for a pattern."""
    import fcntl

    with (config_path().parent / "config.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if part is None:
            part_path(name).unlink(missing_ok=True)
        else:
            write_atomically(part_path(name), part, mode=0o600)
        texts = [path.read_text(encoding="utf-8") for path in sorted(part_path(name).parent.glob("*.conf"))]
        head = "# Written by swarm: ssh -F THIS-FILE NAME reaches the guest called NAME."
        write_atomically(config_path(), "\n".join([head, *texts]), mode=0o600)


def _holds(path: Path, text: str) -> bool:
    return path.exists() and text in path.read_text(encoding="utf-8")


def argv(target: Target, words: Sequence[str] = (), *, user: str | None = None) -> list[str]:
    """Return the ssh command line that runs `words` in the guest, or a login shell.

    One word is taken as a shell command, as ssh does it; several are quoted each, so that they arrive as they are.
    """
    command = [words[0]] if len(words) == 1 else [quote(words)] if words else []
    return ["ssh", "-F", str(write_config(target)), *(["-l", user] if user else []), target.name, *command]


def open_socket(target: Target, limit: float) -> socket.socket:
    """Return a TCP connection to the guest's SSH port, made within `limit` seconds. Raise OSError."""
    if target.embedded:
        return target.embedded.connect(target.address, target.port, limit)
    if target.jump:
        return _through([*_jump(target.jump), "-o", f"ConnectTimeout={max(_FAR, round(limit))}", "-W", f"[{target.address}]:{target.port}"])
    made = socket.create_connection((target.address, target.port), timeout=limit)
    made.settimeout(None)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # paramiko sets none, and stalls 40 ms at a time without
    return made


def read_banner(target: Target, limit: float) -> str:
    """Return what the guest's SSH server says first, like SSH-2.0-OpenSSH_9.2. Raise PortClosed if none does within `limit` seconds."""
    try:
        with open_socket(target, limit) as made:
            made.settimeout(limit)
            banner = made.recv(256)
    except OSError as error:
        raise PortClosed(f"{target.name} does not answer at {target.place}: {error.strerror or error}") from None
    if not banner.startswith(b"SSH-"):
        raise PortClosed(f"{target.name} does not answer at {target.place} yet")
    return banner.splitlines()[0].decode(errors="replace")


def connect(target: Target, limit: float, *, reach: float | None = None) -> Connection:
    """Return an open Fabric connection to the guest, each stage of which may take `limit` seconds.

    `reach` is for the first stage alone, the TCP connection, in seconds. It is short where somebody waits for a guest that boots:
    a SYN that was lost is repeated after 1, 3, 7 and 15 seconds only, so a new try is quicker than patience.

    Raise PortClosed, KeyRefused or LoginRefused. Fabric on its own accepts any host key; here it is given the pinned one
    and a policy that rejects every other.
    """
    import logging

    import paramiko
    from fabric import Config, Connection

    # What goes wrong is raised. Left alone, paramiko's thread would also log it, with a traceback, for each try of one who waits.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    keys: dict[str, object] = {"timeout": limit, "banner_timeout": limit, "auth_timeout": limit}
    if target.identity:
        keys |= {"key_filename": str(target.identity), "allow_agent": False, "look_for_keys": False}
    key = _pinned_key(target)
    config = Config(lazy=True)  # a person's own ~/.ssh/config must not bend what happens here
    connection = Connection(target.address, user=target.user, port=target.port, connect_kwargs=keys, config=config)
    assert connection.client is not None  # noqa: S101 - Fabric makes it with the connection; this tells the type checker
    connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
    name = target.address if target.port == PORT else f"[{target.address}]:{target.port}"  # what paramiko looks for
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
        if "No authentication methods available" in str(error):  # there is no private key at all that could be offered
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


def _jump(destination: str) -> list[str]:
    """The way to a remote hypervisor, as OpenSSH goes it by a person's own configuration, which libvirt goes by too."""
    return ["ssh", "-o", "BatchMode=yes", destination]


def _through(argv: list[str]) -> socket.socket:
    """A socket to what a program connects its standard input and output with."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(argv, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.DEVNULL)
    Thread(target=process.wait, daemon=True).start()  # it ends when our end is closed; somebody must take notice
    return ours


def _word(path: Path) -> str:
    """A path as one argument of ssh_config, where % begins a token and a backslash lets a quote stand for itself."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'
