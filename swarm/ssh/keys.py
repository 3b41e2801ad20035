"""SSH keys: our own, new ones, and the pinned host keys of guests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.files import private_dir, write_atomically
from swarm.locks import hold
from swarm.paths import state_dir

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["keypair", "own_key", "pin", "pinned"]


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


def pin(path: Path, names: Sequence[str], public_key: str) -> None:
    """Pin a guest's host key: write it to `path` as the only key that is accepted for `names`."""
    kind, key = public_key.split()[:2]
    write_atomically(path, f"{','.join(names)} {kind} {key}\n")


def pinned(path: Path) -> str | None:
    """Return the pinned key as "type key", or None. Comments are skipped; the first of several keys counts."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    words = next((line.split() for line in lines if line.strip() and not line.startswith("#")), [])
    return " ".join(words[1:3]) or None
