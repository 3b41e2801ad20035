"""Read an object. A download that breaks off continues where it stopped, with the same version of the object."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from swarm.errors import RemoteError
from swarm.s3.reasons import EXISTS, Interrupted, code

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.s3.bucket import Bucket

__all__ = ["Patience", "download"]

_READ = 1 << 20
_AGAIN = "run the command again"


@dataclass(frozen=True)
class Patience:
    """Timeouts and retries of downloads. All times are in seconds.

    `silence` is the timeout for receiving. Give up after `tries` consecutive failures with less than 1 MiB received
    in between. The delay between attempts doubles from `pause`: 15 s in total, enough for a server to restart.
    """

    silence: float = 60
    tries: int = 6
    pause: float = 0.5


def download(bucket: Bucket, name: str, patience: Patience) -> Iterator[bytes]:
    """Yield an object's content.

    If the connection breaks, request the rest of the same version, which its ETag identifies. Raise Missing if there
    is no such object, and RemoteError if it was replaced meanwhile or if all attempts have failed.
    """
    reading, failures = _Reading(bucket, name), 0
    while True:
        before = reading.done
        try:
            with bucket.explained("read", name):
                yield from reading.attempt()
        except Interrupted as error:
            if reading.complete:
                return
            if reading.total is None or not reading.resumable:
                raise
            failures = 1 if reading.done - before >= _READ else failures + 1
            if failures >= patience.tries:
                received = f"{reading.done} of {reading.total} bytes received"
                raise RemoteError(f"{error.message} ({received}, {failures} attempts)", error.hint) from None
        else:
            return
        time.sleep(patience.pause * 2 ** (failures - 1))


class _Reading:
    """One version of an object, and how many of its bytes have been received."""

    def __init__(self, bucket: Bucket, name: str) -> None:
        self._bucket = bucket
        self._where = {"Bucket": bucket.bucket, "Key": bucket.prefix + name}
        self._prefix = f"can't read {name} in {bucket.url}"
        self._tag = ""
        self.total: int | None = None
        self.done = 0

    @property
    def complete(self) -> bool:
        """Whether every byte has been received."""
        return self.done == self.total

    @property
    def resumable(self) -> bool:
        """Whether the rest can be requested. A weak ETag does not promise equal bytes."""
        return self.done == 0 or self._tag.startswith('"')

    def attempt(self) -> Iterator[bytes]:
        """Yield what is still missing."""
        with contextlib.closing(self._resume() if self.done else self._begin()) as body:
            while chunk := body.read(_READ):
                self.done += len(chunk)
                yield chunk
        if not self.complete:
            raise self._broken("the content ended early")

    def _begin(self) -> Any:  # noqa: ANN401 - boto3 has no types
        client = self._bucket.client() if self.total is None else self._bucket.client(1)
        answer = client.get_object(**self._where)
        # A connection that breaks inside the headers leaves some of them out.
        self.total, self._tag = answer.get("ContentLength", -1), str(answer.get("ETag", ""))
        return answer["Body"]

    def _resume(self) -> Any:  # noqa: ANN401 - boto3 has no types
        client = self._bucket.client(1)  # download() counts the attempts and waits between them
        try:
            answer = client.get_object(**self._where, Range=f"bytes={self.done}-", IfMatch=self._tag)
        except Exception as error:
            if code(error) in EXISTS:
                raise self._replaced() from None
            raise
        body, tag, total = answer["Body"], str(answer.get("ETag", "")), self.total or 0
        if tag == self._tag and answer.get("ContentRange") == f"bytes {self.done}-{total - 1}/{total}":
            return body
        body.close()
        if tag != self._tag and tag.endswith('"'):
            raise self._replaced()
        raise self._broken("the server did not send the rest of the object")

    def _replaced(self) -> RemoteError:
        return RemoteError(f"{self._prefix}: the object was replaced during the download", _AGAIN)

    def _broken(self, what: str) -> Interrupted:
        return Interrupted(f"{self._prefix}: {what}", _AGAIN)
