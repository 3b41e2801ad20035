"""An npm registry that passes everything on to the real one, but offers one more version of one package."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import subprocess
import tarfile
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["OneMore", "real_registry", "releases"]

_PATIENCE = 120  # seconds for one answer of the real registry
_AGE = "2020-01-01T00:00:00.000Z"  # old enough for every policy that distrusts new versions


def real_registry() -> str:
    """Return the URL of the registry that this computer uses."""
    shown = subprocess.run(["npm", "config", "get", "registry"], capture_output=True, text=True, check=True)
    return shown.stdout.strip().rstrip("/")


def releases(name: str) -> list[str]:
    """Return the released versions of a package, the oldest first, without pre-releases."""
    shown = subprocess.run(
        ["npm", "view", name, "versions", "--json"], capture_output=True, text=True, check=True
    )
    return [each for each in json.loads(shown.stdout) if re.fullmatch(r"\d+\.\d+\.\d+", each)]


def _fetch(url: str) -> bytes:
    # The URL is from npm's own settings, or from its registry.
    with urllib.request.urlopen(url, timeout=_PATIENCE) as answer:  # noqa: S310 - as above
        return bytes(answer.read())


class OneMore:
    """The registry, on a port of this computer's loopback. Use it as a context.

    The newest version of the package `name`, with the file `path` (below its package/) changed by `change`, is offered
    as `version`. The real one's other packages are answered by redirections.
    """

    def __init__(
        self, folder: Path, name: str, version: str, path: str, change: Callable[[str], str], port: int
    ) -> None:
        self.real, self.name, self.version, self.port = real_registry(), name, version, port
        document: dict[str, Any] = json.loads(_fetch(f"{self.real}/{name}"))
        newest = document["dist-tags"]["latest"]
        original = _fetch(document["versions"][newest]["dist"]["tarball"])
        self.tarball = folder / "package.tgz"
        self.tarball.write_bytes(_changed(original, version, path, change))
        digest = base64.b64encode(hashlib.sha512(self.tarball.read_bytes()).digest()).decode()
        address = f"http://127.0.0.1:{port}/{name}/-/{name}-{version}.tgz"
        dist = {"tarball": address, "integrity": f"sha512-{digest}"}
        extra = {**document["versions"][newest], "version": version, "dist": dist}
        document["versions"] = {newest: document["versions"][newest], version: extra}
        document["dist-tags"] = {"latest": version}
        document["time"] = {"created": _AGE, "modified": _AGE, newest: _AGE, version: _AGE}
        self.document = json.dumps(document).encode()

    def __enter__(self) -> Self:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == f"/{outer.name}":
                    self._answer("application/json", outer.document)
                elif self.path.endswith(f"{outer.name}-{outer.version}.tgz"):
                    self._answer("application/octet-stream", outer.tarball.read_bytes())
                else:
                    self.send_response(302)
                    self.send_header("Location", outer.real + self.path)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def _answer(self, kind: str, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Keep the tests' output short."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _changed(original: bytes, version: str, path: str, change: Callable[[str], str]) -> bytes:
    made = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(original), mode="r:gz") as old,
        gzip.GzipFile(fileobj=made, mode="wb", compresslevel=1) as packed,
        tarfile.open(fileobj=packed, mode="w|") as new,
    ):
        for member in old:
            content = old.extractfile(member)
            body = content.read() if content else b""
            if member.name == f"package/{path}":
                body = change(body.decode()).encode()
            elif member.name == "package/package.json":
                body = json.dumps({**json.loads(body), "version": version}, indent=2).encode()
            member.size = len(body)
            new.addfile(member, io.BytesIO(body) if content else None)
    return made.getvalue()
