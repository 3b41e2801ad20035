"""A private certificate authority, made by openssl."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["make_authority", "make_certificate"]

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")


def make_authority(folder: Path, name: str = "authority") -> Path:
    """Create an authority. Return its certificate; its key is beside it."""
    return _request(folder / f"{name}.pem", name)


def make_certificate(authority: Path, folder: Path) -> Path:
    """Let the authority certify a server at 127.0.0.1. Return the certificate; its key is beside it."""
    signer = ("-CA", authority, "-CAkey", authority.with_suffix(".key"))
    plain = ("-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE")
    return _request(folder / "server.pem", "server", *signer, *plain)


def _request(path: Path, name: str, *more: str | Path) -> Path:
    out = ("-subj", f"/CN={name}", "-keyout", path.with_suffix(".key"), "-out", path)
    subprocess.run(["openssl", "req", "-x509", *_KEY, *out, *more], check=True, capture_output=True)
    return path
