"""The generated ssh_config that ssh, rsync, testinfra and Guest all use."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swarm.files import private_dir, write_atomically
from swarm.locks import hold
from swarm.paths import ROOT, state_dir
from swarm.ssh.keys import identities
from swarm.ssh.words import proxy, word
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from swarm.embedded import Embedded
    from swarm.ssh.jump import Jump

__all__ = [
    "PORT",
    "Target",
    "argv",
    "config_path",
    "forget",
    "part_path",
    "write_config",
    "write_configs",
]

PORT = 22


@dataclass(frozen=True)
class Target:
    """How to reach one guest.

    `embedded` is the private hypervisor that runs it, `jump` the remote one. At most one is given. `near` says that
    the guest runs on this machine. `identity` is the private key to log in with. With None, ssh offers the keys in
    `authorized`, which are public ones, first, and then the agent's other keys and the user's own. The pinned host
    key is found by `name`, so it stays valid when the address changes.
    """

    name: str
    address: str
    known_hosts: Path
    user: str = "root"
    identity: Path | None = None
    embedded: Embedded | None = None
    jump: Jump | None = None
    port: int = PORT
    near: bool = False
    authorized: tuple[str, ...] = ()

    @property
    def sheltered(self) -> bool:
        """Whether the connection never crosses a network in the clear: it is local, or inside another one."""
        return self.near or bool(self.embedded or self.jump)

    @property
    def place(self) -> str:
        """Address and port, for messages."""
        return f"{self.address}:{self.port}"


def config_path() -> Path:
    """Return the path of the generated ssh_config, which names every host that swarm can reach."""
    return state_dir() / "ssh" / "config"


def part_path(name: str) -> Path:
    """Return the path of the ssh_config of one host, which does not change when another host does."""
    return config_path().parent / "hosts" / f"{name}.conf"


def write_config(target: Target) -> Path:
    """Write the ssh_config of one host and the combined file, and return the combined file's path.

    ssh_config cannot quote a path that looks like an environment variable, such as ${HOME}.
    """
    return write_configs([target])


def write_configs(targets: Iterable[Target]) -> Path:
    """Write the ssh_config of each host and the combined file once, and return the combined file's path."""
    folder = private_dir(private_dir(state_dir()) / "ssh")
    private_dir(folder / "hosts")
    combined = config_path().read_bytes() if config_path().exists() else b""
    stale: dict[str, str | None] = {}
    for target in targets:
        part = "\n".join([*_settings(target), *_way(target)]) + "\n"
        if part.encode() not in combined or not _holds(part_path(target.name), part):
            stale[target.name] = part
    if stale:
        _combine(stale)
    return config_path()


def _settings(target: Target) -> list[str]:
    lines = [
        f"Host {target.name}",
        f"    HostName {target.address}",
        f"    Port {target.port}",
        f"    HostKeyAlias {target.name}",
        f"    User {target.user}",
        f"    UserKnownHostsFile {word(target.known_hosts)}",
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
        lines += [f"    IdentityFile {word(target.identity)}", "    IdentitiesOnly yes"]
    elif target.authorized:
        offer = identities(target.authorized)
        lines += [f"    IdentityFile {word(path)}" for path in offer.files]
        lines += ["    IdentitiesOnly yes"] if offer.only else []
    if target.sheltered:
        # Streamlined NTRU Prime protects recorded traffic from future quantum computers and costs 80 ms of CPU.
        # Traffic that never crosses a network cannot be recorded. ML-KEM (OpenSSH 9.9) is cheap and stays.
        lines.append("    KexAlgorithms -sntrup761*")
    return lines


def _way(target: Target) -> list[str]:
    """Return how ssh connects."""
    if target.jump:
        return [f"    ProxyCommand {target.jump.proxy_command()}"]
    words = [ROOT / "swarm/ssh/dial.py"]
    if target.embedded:
        words = [ROOT / "swarm/embedded/broker.py", target.embedded.broker]
    command = proxy(sys.executable, "-I", "-S", *words, "%h", "%p")
    return [f"    ProxyCommand {command}", "    ProxyUseFdpass yes"]


def forget(name: str) -> None:
    """Remove a host from the generated ssh_config."""
    if part_path(name).exists():
        _combine({name: None})


def _combine(parts: Mapping[str, str | None]) -> None:
    """Write or remove hosts' parts and combine all parts. Include would expand brackets in a path."""
    folder = config_path().parent / "hosts"
    with hold(config_path().parent / "config.lock"):
        for name, part in parts.items():
            if part is None:
                part_path(name).unlink(missing_ok=True)
            else:
                write_atomically(part_path(name), part, mode=0o600)
        texts = [_readable(path) for path in sorted(folder.glob("*.conf"))]
        head = "# Written by swarm: ssh -F THIS-FILE NAME reaches the guest called NAME."
        write_atomically(config_path(), "\n".join([head, *texts]), mode=0o600)


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_bytes() == text.encode()


def _readable(path: Path) -> str:
    """Return a host's part, or nothing if the file is damaged: it is written again when that host is next used."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def argv(target: Target, words: Sequence[str] = (), *, user: str | None = None) -> list[str]:
    """Return the ssh command line that runs `words` in the guest, or a login shell.

    One word is a shell command, as with ssh itself. Several words are quoted, so each arrives as one word.
    """
    command = list(words) if len(words) < 2 else [quote(*words)]  # noqa: PLR2004 - several
    login = ["-l", user] if user else []
    return ["ssh", "-F", str(write_config(target)), *login, "--", target.name, *command]
