"""Sign summaries with swarm's own SSH key: age does not tell who encrypted an archive."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from swarm import ssh
from swarm.errors import CommandFailed, Unfit, VerificationFailed
from swarm.text import visible

__all__ = ["sign", "verify"]

_NAMESPACE = "swarm-backup"
_PRINCIPAL = "swarm"
_TIMEOUT = 30


def sign(data: bytes) -> bytes:
    """Return the SSH signature of data."""
    command = ["-Y", "sign", "-q", "-f", str(ssh.own_key()), "-n", _NAMESPACE]
    ended = _keygen(command, data)
    if ended.returncode:
        raise CommandFailed(f"ssh-keygen can't sign the summary: {_last(ended.stderr)}")
    return ended.stdout


def verify(data: bytes, signature: bytes, *, public_key: str | None = None) -> None:
    """Raise VerificationFailed unless `signature` was made by swarm's own key, or by `public_key`."""
    public = public_key or ssh.own_public_key()
    with tempfile.TemporaryDirectory(prefix="swarm-") as folder:
        allowed, signed = Path(folder) / "allowed", Path(folder) / "signature"
        allowed.write_text(f"{_PRINCIPAL} {' '.join(public.split()[:2])}\n", encoding="ascii")
        signed.write_bytes(signature)
        command = ["-Y", "verify", "-f", str(allowed), "-I", _PRINCIPAL, "-n", _NAMESPACE, "-s", str(signed)]
        ended = _keygen(command, data)
    if ended.returncode:
        raise VerificationFailed(
            f"the summary's signature is not valid: {_last(ended.stderr or ended.stdout)}",
            "if another machine made the backup, verify the archive's content",
        )


def _keygen(command: list[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["ssh-keygen", *command], input=data, capture_output=True, check=False, timeout=_TIMEOUT
        )
    except FileNotFoundError:
        raise Unfit("ssh-keygen is not installed", "install openssh-client") from None
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"ssh-keygen timed out after {_TIMEOUT} s") from None


def _last(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return visible(lines[-1], lines=False) if lines else "no message"
