"""SSH keys: our own, new ones, and the pinned host keys of guests."""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from swarm.errors import Unfit
from swarm.files import private_dir, write_atomically
from swarm.locks import hold
from swarm.paths import home, state_dir
from swarm.ssh.agent import held
from swarm.ssh.wire import field

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Offer", "identities", "keypair", "own_key", "own_public_key", "pin", "pinned"]

_MAGIC = b"openssh-key-v1\0"
# What ssh itself looks for, in its order.
_DEFAULTS = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk")
_TRIES = 6  # keys that a server lets a client offer: MaxAuthTries of sshd


def keypair(comment: str) -> tuple[str, str]:
    """Return a new ed25519 key as (private key in OpenSSH's format, public key line)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return private, f"{public} {comment}"


def own_key() -> Path:
    """Return the path of swarm's own private key, for host files that name none. It is created on first use."""
    folder = private_dir(private_dir(state_dir()) / "ssh")
    path = folder / "id_ed25519"
    with hold(folder / "key.lock"):
        if not path.exists():
            private, public = keypair("swarm")
            write_atomically(folder / "id_ed25519.pub", public + "\n")
            write_atomically(path, private, mode=0o600)
    return path


def own_public_key() -> str:
    """Return the line of swarm's own public key. It is taken from the private key, and its file is corrected.

    Raise Unfit if the private key is damaged.
    """
    path = own_key()
    line = f"{_public_half(path)} swarm"
    public = path.with_suffix(".pub")
    if not public.exists() or public.read_bytes() != f"{line}\n".encode():
        write_atomically(public, f"{line}\n")
    return line


def _public_half(path: Path) -> str:
    """Return "type key" of a private key. OpenSSH stores it in clear, in front of the secret half.

    Loading cryptography for this would take longer than everything else. The layout is in OpenSSH's PROTOCOL.key.
    """
    try:
        lines = path.read_text(encoding="ascii").split("\n")
        rest = base64.b64decode(
            "".join(line for line in lines if not line.startswith("-----")), validate=True
        )
        magic, rest = rest[: len(_MAGIC)], rest[len(_MAGIC) :]
        for _ in ("cipher", "key derivation", "its options"):
            _, rest = field(rest)
        blob, secret = field(rest[4:])  # after the number of keys
        kind, _ = field(blob)
        field(secret)
        if magic == _MAGIC and re.fullmatch(rb"[a-z0-9@.-]+", kind):
            return f"{kind.decode()} {base64.b64encode(blob).decode()}"
    except (ValueError, struct.error):
        pass
    raise Unfit(
        f"swarm's private key {path} is damaged, or not in OpenSSH's format",
        f"restore it from a backup; without one, remove {path}, and give each guest the new key",
    )


@dataclass(frozen=True)
class Offer:
    """The identity files that ssh offers, in this order. With `only`, it offers none of the agent's other keys."""

    files: list[Path]
    only: bool


def identities(authorized: Sequence[str]) -> Offer:
    """Return how ssh offers the keys in `authorized` (public keys, one a line) first.

    Servers end a connection after six keys, and an agent may hold more. A file with a public key stands for the agent's
    key. The user's own files follow, since a guest may still know an earlier key. ssh tries all of an agent's keys
    before a file that the agent does not hold. So if there are too many of them, they are left out.
    """
    wanted = [" ".join(line.split()[:2]) for line in authorized]
    own = _own_files()
    matching = [path for path, public in own.items() if public in wanted]
    there = {own[path] for path in matching}
    folder = private_dir(private_dir(private_dir(state_dir()) / "ssh") / "keys")
    public = [_public_file(folder, key) for key in wanted if key not in there]
    loaded = held() if matching else []
    only = len(loaded) >= _TRIES and not set(loaded) & set(wanted)
    return Offer([*matching, *public, *(path for path in own if path not in matching)], only)


def _own_files() -> dict[Path, str]:
    """Return the user's private keys, each with its public key as "type key", or "" if that is not beside it."""
    try:
        return _files(home() / ".ssh")
    except Unfit:
        return {}


@cache
def _files(folder: Path) -> dict[Path, str]:
    """Return the same for one folder, which is read once."""
    found: dict[Path, str] = {}
    for path in (folder / name for name in _DEFAULTS):
        with suppress(OSError, UnicodeDecodeError):
            if path.is_file():
                found[path] = ""
                text = path.with_name(f"{path.name}.pub").read_text(encoding="utf-8")
                found[path] = " ".join(text.split()[:2])
    return found


def _public_file(folder: Path, key: str) -> Path:
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.pub"
    if not path.exists():
        write_atomically(path, f"{key}\n")
    return path


def pin(path: Path, names: Sequence[str], public_key: str) -> None:
    """Pin a guest's host key: write it to `path` as the only key that is accepted for `names`.

    Raise Unfit for what is no key, such as a damaged note of a domain.
    """
    words = public_key.split()[:2]
    if len(words) < 2:  # noqa: PLR2004 - the type and the key
        raise Unfit(f"{names[0]}: there is no valid host key to pin", f"./inv pin --host {names[0]}")
    write_atomically(path, f"{','.join(names)} {' '.join(words)}\n")


def pinned(path: Path) -> str | None:
    """Return the pinned key as "type key", or None. Comments are skipped; the first of several keys counts."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    words = next((line.split() for line in lines if line.strip() and not line.startswith("#")), [])
    return " ".join(words[1:3]) or None
