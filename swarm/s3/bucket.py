"""A prefix of an S3 bucket as a destination."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

from swarm.errors import RemoteError, Unfit
from swarm.s3.download import Patience, download
from swarm.s3.port import Stored
from swarm.s3.reasons import EXISTS, GONE, Interrupted, code, reason, transient
from swarm.s3.upload import Upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["Bucket", "Missing"]

_ATTEMPTS = 6


class Missing(RemoteError):
    """The object does not exist."""


class Exists(RemoteError):
    """An object of this name exists already."""


class Bucket:
    """A prefix of an S3 bucket. `owns` says which names are ours: only their abandoned uploads are removed."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        ca_certificate: Path | None = None,
        owns: Callable[[str], bool] = lambda _name: False,
        patience: Patience | None = None,
    ) -> None:
        self.bucket = bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.endpoint, self._ca, self._owns = endpoint, ca_certificate, owns
        self._patience = patience or Patience()
        self.url = f"s3://{bucket}/{self.prefix}" + (f" at {endpoint}" if endpoint else "")
        self._made: dict[tuple[int, bool], Any] = {}
        self._making = Lock()
        self._checked = False

    def client(self, attempts: int = _ATTEMPTS, *, signed: bool = True) -> Any:  # noqa: ANN401 - boto3 has no types
        """Return the client. Credentials come from the default chain of AWS.

        Without `signed`, content is not part of the signature of a request. Its checksum, a header, still is.
        """
        key = attempts, signed
        with self._making:  # a client may be shared by threads; a session may not
            if key not in self._made:
                self._made[key] = self._new_client(attempts, signed=signed)
            return self._made[key]

    def check(self) -> None:
        """Raise RemoteError unless the bucket exists and the credentials are accepted."""
        with self.explained("access"):
            client = self.client(3)
            # The answer to HEAD has no body, so that a wrong key and a missing bucket look like 403 and 404.
            client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, MaxKeys=1)
            client.head_bucket(Bucket=self.bucket)
        self._checked = True

    def objects(self) -> list[Stored]:
        """Return every object below the prefix, sorted."""
        found = []
        with self.explained("list"):
            pages = self.client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix):
                for each in page.get("Contents", ()):
                    name = str(each["Key"]).removeprefix(self.prefix)
                    found.append(Stored(name, int(each["Size"]), each["LastModified"].astimezone(UTC)))
        return sorted(set(found))

    def writer(self, name: str) -> Upload:
        """Begin an object. It is uploaded in parts."""
        self._ensure()
        return Upload(self, name)

    def put(self, name: str, data: bytes, *, fresh: bool = False) -> None:
        """Store a small object. With `fresh`, raise RemoteError if it exists."""
        self._ensure()
        condition = {"IfNoneMatch": "*"} if fresh else {}
        try:
            with self.explained("write", name):
                self.client().put_object(Bucket=self.bucket, Key=self.prefix + name, Body=data, **condition)
        except Exists:
            # A repeated attempt finds what the first one stored if only the answer was lost.
            if b"".join(self.read(name)) != data:
                raise

    def read(self, name: str) -> Iterator[bytes]:
        """Yield an object's content. Continue where a broken download stopped."""
        return download(self, name, self._patience)

    def head(self, name: str) -> dict[str, Any] | None:
        """Return an object's metadata, or None if it does not exist."""
        try:
            with self.explained("read", name):
                found: dict[str, Any] = self.client().head_object(Bucket=self.bucket, Key=self.prefix + name)
        except Missing:
            return None
        return found

    def exists(self, name: str) -> bool:
        """Return whether an object exists."""
        return self.head(name) is not None

    def retained(self, name: str) -> datetime | None:
        """Return the time until which an object is locked, or None."""
        return _retained(self.head(name) or {})

    def delete(self, name: str) -> datetime | None:
        """Delete an object unless it is locked: then a versioned bucket would only hide it."""
        if (found := self.head(name)) is None:
            return None
        if until := _retained(found):
            return until
        with self.explained("delete", name):
            self.client().delete_object(Bucket=self.bucket, Key=self.prefix + name)
        return None

    def sweep(self, *, age: timedelta = timedelta(days=1)) -> int:
        """Abort our own uploads that were begun longer than `age` ago. Return their number."""
        before, count = datetime.now(UTC) - age, 0
        with self.explained("clean up"):
            client = self.client()
            pages = client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix):
                for each in page.get("Uploads", ()):
                    key = str(each["Key"])
                    mine = key.startswith(self.prefix) and self._owns(key.removeprefix(self.prefix))
                    if mine and each["Initiated"].astimezone(UTC) < before:
                        client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=each["UploadId"])
                        count += 1
        return count

    @contextlib.contextmanager
    def explained(self, action: str, name: str = "") -> Iterator[None]:
        """Turn every error of boto3 into one RemoteError that names the destination."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (BotoCoreError, ClientError, Boto3Error, HTTPError) as error:
            what, hint = reason(error, self.bucket, self.endpoint, authority=self._ca is not None)
            thing = f"{name} in {self.url}" if name else self.url
            raise _kind(error)(f"can't {action} {thing}: {what}", hint) from None

    @cached_property
    def _session(self) -> Any:  # noqa: ANN401
        import boto3

        return boto3.session.Session()  # it keeps the description of S3, which takes long to read

    def _new_client(self, attempts: int, *, signed: bool) -> Any:  # noqa: ANN401
        from botocore.config import Config

        if self._ca:
            _check_authority(self._ca)
        style: dict[str, Any] = {"addressing_style": "path"} if self.endpoint else {}
        config = Config(
            retries={"mode": "adaptive", "total_max_attempts": attempts},
            connect_timeout=5,
            read_timeout=self._patience.silence,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3=style if signed else {**style, "payload_signing_enabled": False},
        )
        return self._session.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self._session.region_name or "us-east-1",
            verify=str(self._ca) if self._ca else None,
            config=config,
        )

    def _ensure(self) -> None:
        """Check once before the first write: a PUT into a missing bucket creates it on some servers."""
        if not self._checked:
            self.check()


def _kind(error: Exception) -> type[RemoteError]:
    if code(error) in GONE:
        return Missing
    if code(error) in EXISTS:
        return Exists
    return Interrupted if transient(error) else RemoteError


def _check_authority(path: Path) -> None:
    """Raise Unfit unless a file holds a certificate: boto3 would only report that TLS failed."""
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except FileNotFoundError:
        raise Unfit(f"backup.ca_certificate: {path} does not exist", "correct the host file") from None
    except ssl.SSLError:
        raise Unfit(
            f"backup.ca_certificate: {path} holds no certificate in PEM format", "correct the host file"
        ) from None
    except OSError as error:
        raise Unfit(f"backup.ca_certificate: {path} can't be read: {error.strerror}") from None


def _retained(found: dict[str, Any]) -> datetime | None:
    if found.get("ObjectLockLegalHoldStatus") == "ON":
        return datetime.max.replace(tzinfo=UTC)
    until = found.get("ObjectLockRetainUntilDate")
    if isinstance(until, datetime) and until.astimezone(UTC) > datetime.now(UTC):
        return until.astimezone(UTC)
    return None
