"""The end of a multipart upload, with a server whose answers get lost."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from swarm.errors import RemoteError
from swarm.s3 import Bucket
from tools.seaweed import use_keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = (8 << 20) + 5  # bytes; two parts
BEGUN = b"<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>"
GONE = b"<Error><Code>NoSuchUpload</Code><Message>gone</Message></Error>"


class Forgetful(BaseHTTPRequestHandler):
    """An S3 server that completes an upload once, does not answer, and then knows nothing of the upload."""

    stored: int | None  # bytes of the object that the completed upload makes
    asked: int

    def do_GET(self) -> None:
        """List nothing."""
        self._answer(200, b"<ListBucketResult></ListBucketResult>")

    def do_HEAD(self) -> None:
        """Describe the bucket or the object."""
        if self.path.partition("?")[0] == "/zap":
            self._answer(200)
        elif self.stored is None or not self.asked:
            self._answer(404)
        else:
            self._answer(200, length=self.stored)

    def do_PUT(self) -> None:
        """Take a part."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200)

    def do_POST(self) -> None:
        """Begin or complete the upload."""
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        if "uploads" in self.path:
            self._answer(200, BEGUN)
        else:
            type(self).asked += 1
            if self.asked == 1:
                self.close_connection = True
            else:
                self._answer(404, GONE)

    def do_DELETE(self) -> None:
        """Abort the upload."""
        self._answer(204)

    def _answer(self, status: int, body: bytes = b"", length: int = 0) -> None:
        self.send_response(status)
        self.send_header("ETag", '"tag"')
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def forgetful(size: int | None) -> Iterator[str]:
    """Run the server during the block. Give its URL."""
    handler = type("Handler", (Forgetful,), {"stored": size, "asked": 0})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(("size", "complete"), [(SIZE, True), (SIZE - 1, False), (None, False)])
def test_the_answer_to_a_completion_may_get_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int | None, *, complete: bool
) -> None:
    """If a repeated completion finds no upload, the whole object is a success, and anything else is an error."""
    use_keys(monkeypatch, tmp_path)
    with forgetful(size) as endpoint, Bucket("zap", endpoint=endpoint).writer("object") as writer:
        writer.write(bytes(SIZE))
        if complete:
            writer.commit()
        else:
            with pytest.raises(RemoteError, match="the server has dropped the unfinished upload"):
                writer.commit()
