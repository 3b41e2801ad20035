"""How OpenSSH writes a string of bytes: its length, and then the bytes (RFC 4251, section 5)."""

from __future__ import annotations

import struct

__all__ = ["field"]


def field(data: bytes) -> tuple[bytes, bytes]:
    """Return the first string, which its length in four bytes precedes, and the rest. Raise struct.error."""
    (length,) = struct.unpack_from(">I", data)
    return struct.unpack_from(f"{length}s", data, 4)[0], data[4 + length :]
