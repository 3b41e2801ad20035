"""Trees and archives for tests: a tree with everything that is difficult, and archives that are not ours."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from typing import TYPE_CHECKING

import pyrage
from backports import zstd

from swarm.backup.archive import Owners, Packed, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ODD = (
    b"\xff\xfe",
    b"line\nbreak",
    b"esc\x1b[31m",
    b"-rf",
    b"n" * 255,
    b"back\\slash",
    b"cr\r",
    "ü".encode(),
)
OWNERS = Owners("agent", "agent", {"sub/deep": ("root", "adm")})
CLOSING = ".swarm-archive/SHA256SUMS"


def make_tree(root: Path) -> Path:
    """Create and return a mirror with files of all sizes, odd names, links, and times to the nanosecond."""
    (root / "sub" / "deep").mkdir(parents=True)
    for at, name in enumerate(_ODD):
        (root / os.fsdecode(name)).write_bytes(name)
        (root / "sub" / os.fsdecode(name)).mkdir(exist_ok=True)
        os.utime(root / os.fsdecode(name), ns=(0, 1_700_000_000_123_456_789 + at))
    (root / "empty").touch()
    (root / "large").write_bytes(os.urandom(3 << 20) + b"tail")
    (root / "secret").write_text("token")
    (root / "secret").chmod(0o600)
    (root / "old").write_text("before 1970")
    os.utime(root / "old", ns=(0, -1_500_000_001))
    (root / "second-name").hardlink_to(root / "secret")
    (root / "sub" / "link").symlink_to("../secret")
    os.utime(root / "sub" / "link", ns=(0, 1_600_000_000_000_000_007), follow_symlinks=False)
    (root / "sub" / "deep" / ("d" * 200)).mkdir()
    (root / "sub" / "deep" / ("d" * 200) / "file").write_text("deep")
    (root / "sub").chmod(0o750)
    os.utime(root / "sub", ns=(0, 1_650_000_000_000_000_001))
    return root


def packed(root: Path, recipient: str | None = None) -> tuple[Packed, bytes]:
    """Return the result of packing a tree, and the archive."""
    sink = io.BytesIO()
    result = pack(root, OWNERS, [sink], recipient=recipient)
    return result, sink.getvalue()


def read(archive: bytes, into: Path | None = None, identity: Path | None = None) -> tuple[object, ...]:
    """Return the entries of an archive that arrives in pieces."""
    return unpack(pieces(archive), into, identity=identity).entries


def pieces(archive: bytes) -> Iterator[bytes]:
    """Yield an archive the way a network does."""
    for at in range(0, len(archive), 100_003):
        yield archive[at : at + 100_003]


def shape(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Return everything about the files of a tree that an archive must keep."""
    found: dict[bytes, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        info, name = path.lstat(), os.fsencode(path.relative_to(root))
        if name.startswith(b".swarm-archive"):
            continue
        content: object = path.readlink() if path.is_symlink() else None
        if stat.S_ISREG(info.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest(), info.st_nlink
        found[name] = info.st_mode, info.st_mtime_ns, content
    return found


def make_identity(path: Path) -> Path:
    """Write a new age secret key to a file. Return the file."""
    path.write_text(f"# a comment\n{pyrage.x25519.Identity.generate()}\n", encoding="ascii")
    return path


def public(identity: Path) -> str:
    """Return the public key of an identity."""
    secret = identity.read_text(encoding="ascii").splitlines()[1]
    return str(pyrage.x25519.Identity.from_str(secret).to_public())


def crafted(*members: tuple[str, bytes, str], closing: bool = True) -> bytes:
    """Return an archive of members (name, type of tar, target); files contain their names."""
    buffer, sums = io.BytesIO(), b""
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            data = name.encode() if kind == tarfile.REGTYPE else b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
            if data and name != CLOSING:
                sums += f"{hashlib.sha256(data).hexdigest()}  ./{name}\n".encode()
        if closing:
            info = tarfile.TarInfo(CLOSING)
            info.size = len(sums)
            tar.addfile(info, io.BytesIO(sums))
    return zstd.compress(buffer.getvalue())
