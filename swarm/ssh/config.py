"""The generated ssh_config that ssh, rsync, testinfra and Guest all use."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.files import private_dir, write_atomically
from swarm.locks import hold
from swarm.paths import ROOT, state_dir
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from swarm.embedded import Embedded

__all__ = ["PORT", "Target", "argv", "config_path", "forget", "jump_command", "part_path", "write_config"]

PORT = 22


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
        lines.append(f"    ProxyCommand {quote(*jump_command(target.jump)).replace('%', '%%')} -W [%h]:%p")
    else:
        way = (
            ["swarm/embedded/gate.py", str(target.embedded.door)]
            if target.embedded
            else ["swarm/ssh/dial.py"]
        )
        command = quote(sys.executable, "-I", "-S", ROOT / way[0], *way[1:])
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
    with hold(config_path().parent / "config.lock"):
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
    command = [words[0]] if len(words) == 1 else [quote(*words)] if words else []
    return ["ssh", "-F", str(write_config(target)), *(["-l", user] if user else []), target.name, *command]


def jump_command(destination: str) -> list[str]:
    """The way to a remote hypervisor, as OpenSSH goes it by a person's own configuration, which libvirt goes by too."""
    return ["ssh", "-o", "BatchMode=yes", destination]


def _word(path: Path) -> str:
    """A path as one argument of ssh_config, where % begins a token and a backslash lets a quote stand for itself."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'
