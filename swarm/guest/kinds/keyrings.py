"""OpenPGP keyrings: whose keys they hold, and until when those are good."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["expired", "fingerprints"]


def fingerprints(keyring: bytes) -> set[str]:
    """Return the fingerprints, in lower case, of all keys in an OpenPGP keyring, armored or not. Unreadable: none."""
    from pysequoia import Cert

    try:
        return {cert.fingerprint.lower() for cert in Cert.split_bytes(keyring)}
    except RuntimeError:
        return set()


def expired(keyring: bytes, now: int) -> datetime | None:
    """Return when the last key in a keyring that could sign expired, if that was before `now` (seconds since 1970).

    A key that cannot be read has no such time, and neither has one that never expires.
    """
    from pysequoia import Cert

    try:
        ends = [end for cert in Cert.split_bytes(keyring) for end in _ends(cert)]
    except RuntimeError:
        return None
    if not ends or None in ends:
        return None
    last = max(end for end in ends if end)
    return last if last <= datetime.fromtimestamp(now, UTC) else None


def _ends(cert: Any) -> Iterator[datetime | None]:  # noqa: ANN401 - pysequoia ships no types
    """When each key of `cert` that may sign expires, the primary and its subkeys; None is never."""
    from pysequoia.packet import PacketPile, Tag

    whole = cert.expiration
    key = binding = None
    for packet in [*PacketPile.from_bytes(bytes(cert)), None]:
        if packet is not None and packet.tag == Tag.Signature:
            # The newest signature that has flags counts; those of other people have none.
            if packet.key_flags and (
                binding is None or packet.signature_created >= binding.signature_created
            ):
                binding = packet
        elif packet is None or any(packet.tag == tag for tag in (Tag.PublicKey, Tag.PublicSubkey)):  # no hash
            if key and binding and binding.key_flags.signing:
                period = binding.key_validity_period
                own = key.key_created + period if period else None
                yield min((end for end in (own, whole) if end), default=None)
            key, binding = packet, None
