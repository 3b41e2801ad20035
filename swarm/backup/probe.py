"""Probe a destination: what `inv doctor` reports about it."""

from __future__ import annotations

import base64
import hashlib
import secrets
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from swarm.errors import RemoteError, SwarmError
from swarm.s3 import Bucket

if TYPE_CHECKING:
    from swarm.s3 import Destination

__all__ = ["probe"]

_SKEW = 60  # seconds; S3 rejects requests at 900
_CONTENT = b"swarm probes this destination\n"

Finding = tuple[str, bool, str]  # what was probed, whether it is all right, and the details


def probe(destination: Destination) -> list[Finding]:
    """Return what a destination supports. One object is written, read, and deleted."""
    try:
        destination.check()
    except SwarmError as error:
        return [("access", False, str(error))]
    found = [("access", True, destination.url)]
    name = f"probe-{secrets.token_hex(8)}"
    try:
        found += _round_trip(destination, name)
        if isinstance(destination, Bucket):
            found += _features(destination, name)
    except SwarmError as error:
        found.append(("write and read", False, str(error)))
    finally:
        found += _removed(destination, name)
    return found


def _round_trip(destination: Destination, name: str) -> list[Finding]:
    destination.put(name, _CONTENT, fresh=True)
    same = b"".join(destination.read(name)) == _CONTENT
    found = [
        ("write and read", same, "" if same else "the destination returns other content than was written")
    ]
    try:
        destination.put(name, _CONTENT[::-1], fresh=True)
    except RemoteError:
        return [*found, ("conditional PUT", True, "an existing object is not overwritten")]
    return [*found, ("conditional PUT", False, "the server overwrites an object in spite of If-None-Match")]


def _removed(destination: Destination, name: str) -> list[Finding]:
    try:
        until = destination.delete(name)
    except SwarmError as error:
        return [("delete", False, str(error))]
    return [("delete", True, f"retained until {until:%Y-%m-%d}" if until else "")]


def _features(bucket: Bucket, name: str) -> list[Finding]:
    found = []
    for what, check in (
        ("clock", _clock),
        ("checksums", _checksums),
        ("versioning", _versioning),
        ("object lock", _lock),
    ):
        try:
            found.append((what, *check(bucket, name)))
        except RemoteError as error:
            found.append((what, what in {"versioning", "object lock"}, error.message))
    return found


def _call(bucket: Bucket, method: str, **options: object) -> dict[str, Any]:
    with bucket.explained("probe"):
        answer: dict[str, Any] = getattr(bucket.client(3), method)(Bucket=bucket.bucket, **options)
    return answer


def _clock(bucket: Bucket, _name: str) -> tuple[bool, str]:
    headers = _call(bucket, "head_bucket")["ResponseMetadata"]["HTTPHeaders"]
    if not (date := headers.get("date")):
        return True, "the server sends no date"
    try:
        skew = abs((parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return False, "the server sends a malformed date"
    return skew <= _SKEW, f"differs by {skew:.0f} s"


def _checksums(bucket: Bucket, name: str) -> tuple[bool, str]:
    key = bucket.prefix + name
    checksum = base64.b64encode(hashlib.sha256(_CONTENT).digest()).decode("ascii")
    _call(bucket, "put_object", Key=key, Body=_CONTENT, ChecksumSHA256=checksum)
    if b"".join(bucket.read(name)) != _CONTENT:
        return False, "the server damages objects that are sent with a checksum"
    kept = _call(bucket, "head_object", Key=key, ChecksumMode="ENABLED").get("ChecksumSHA256")
    return (
        kept == checksum,
        "SHA-256 is checked and kept" if kept == checksum else "the server keeps no SHA-256",
    )


def _versioning(bucket: Bucket, _name: str) -> tuple[bool, str]:
    status = _call(bucket, "get_bucket_versioning").get("Status")
    return True, {"Enabled": "on", "Suspended": "suspended"}.get(str(status), "off")


def _lock(bucket: Bucket, _name: str) -> tuple[bool, str]:
    try:
        answer = _call(bucket, "get_object_lock_configuration")
    except RemoteError as error:
        return True, "off" if "has no object lock" in error.message else error.message
    rule = answer.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention", {})
    period = (
        f"{rule.get('Days') or rule.get('Years')} {'days' if rule.get('Days') else 'years'}" if rule else ""
    )
    return (
        True,
        f"on, {rule.get('Mode', '').lower()} for {period}" if rule else "on, without a default retention",
    )
