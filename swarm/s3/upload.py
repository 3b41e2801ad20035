"""A multipart upload by a few threads, with bounded memory. It ends complete or not at all."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore
from typing import TYPE_CHECKING, Any, Self

from swarm.errors import RemoteError
from swarm.s3.reasons import code

if TYPE_CHECKING:
    from concurrent.futures import Future

    from swarm.s3.bucket import Bucket

__all__ = ["Upload"]

_PART = 8 << 20
_MANY = 8000  # after so many parts they double, since there may be at most 10,000
_THREADS = 2


class Upload:
    """One object on its way into a bucket. An object of less than one part is stored by a plain PUT."""

    def __init__(self, bucket: Bucket, name: str) -> None:
        self._bucket, self._name = bucket, name
        self._to = {"Bucket": bucket.bucket, "Key": bucket.prefix + name}
        self._chunks: list[memoryview] = []
        self._pending = self._total = 0
        self._id = ""
        self._client: Any = None  # for the parts
        self._parts: list[Future[dict[str, Any]]] = []
        self._free = Semaphore(_THREADS)
        self._pool = ThreadPoolExecutor(_THREADS, "upload")
        self._error: BaseException | None = None
        self._ended = False

    def write(self, data: bytes) -> None:
        """Take the next bytes. Wait while all threads are busy. Raise RemoteError if a part has failed."""
        self._raise()
        rest = memoryview(data)
        while len(rest) >= (room := self._size - self._pending):
            self._chunks.append(rest[:room])
            rest = rest[room:]
            self._send(self._collected())
        if rest:
            self._chunks.append(rest)
            self._pending += len(rest)

    def commit(self) -> None:
        """Make the object visible."""
        if not self._id:
            with self._bucket.explained("write", self._name):
                self._put(self._collected())
        else:
            self._complete()
        self._ended = True
        self._pool.shutdown()

    def abort(self) -> None:
        """Cancel the upload. Errors are ignored: the next run removes what is left."""
        if self._ended:
            return
        self._ended = True
        self._pool.shutdown(cancel_futures=True)
        if self._id:
            with contextlib.suppress(RemoteError), self._bucket.explained("abort", self._name):
                self._bucket.client().abort_multipart_upload(**self._to, UploadId=self._id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    @property
    def _size(self) -> int:
        return _PART if len(self._parts) < _MANY else 2 * _PART

    def _collected(self) -> bytes:
        """Return the pending chunks as one, and forget them."""
        part = b"".join(self._chunks)  # the only copy that is made
        self._chunks, self._pending = [], 0
        return part

    def _put(self, data: bytes) -> None:
        self._bucket.client().put_object(**self._to, Body=data, ChecksumSHA256=_checksum(data))

    def _send(self, part: bytes) -> None:
        self._total += len(part)
        if not self._id:
            with self._bucket.explained("write", self._name):
                begun = self._bucket.client().create_multipart_upload(**self._to, ChecksumAlgorithm="SHA256")
            self._id = str(begun["UploadId"])
            # A server that checks the checksum of a part need not check that of the signature as well.
            self._client = self._bucket.client(signed=begun.get("ChecksumAlgorithm") != "SHA256")
        self._free.acquire()
        self._raise()
        self._parts.append(self._pool.submit(self._upload, len(self._parts) + 1, part))

    def _upload(self, number: int, part: bytes) -> dict[str, Any]:
        try:
            with self._bucket.explained("write", self._name):
                answer = self._client.upload_part(
                    **self._to,
                    UploadId=self._id,
                    PartNumber=number,
                    Body=part,
                    ChecksumSHA256=_checksum(part),
                )
        except BaseException as error:
            self._error = self._error or error
            raise
        finally:
            self._free.release()
        kept = {key: answer[key] for key in ("ETag", "ChecksumSHA256") if key in answer}
        return {"PartNumber": number, **kept}

    def _complete(self) -> None:
        if self._chunks:
            self._send(self._collected())
        parts = [future.result() for future in self._parts]
        with self._bucket.explained("write", self._name):
            try:
                self._bucket.client().complete_multipart_upload(
                    **self._to, UploadId=self._id, MultipartUpload={"Parts": parts}
                )
            except Exception as error:
                # A repeated attempt finds no upload, and a complete object, if only the first one's answer was lost.
                found = code(error) == "NoSuchUpload" and self._bucket.head(self._name)
                if not found or found.get("ContentLength") != self._total:
                    raise

    def _raise(self) -> None:
        if self._error:
            raise self._error


def _checksum(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode("ascii")
