"""Downloads by `images.ensure`: shared by runs, killed, out of space, over TLS."""

from __future__ import annotations

import json
import random
import signal
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from swarm import images
from swarm.console import Screen, Talk
from swarm.errors import ImageError, Unfit
from swarm.images import catalogue, download
from swarm.paths import ROOT
from tests.integration.image_server import Answer, Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from swarm.images.catalogue import Entry

# A separate run that calls `ensure` like a command, with a catalog that points to the test's server.
RUN = """
import json, sys
from swarm import images
from swarm.console import Screen, Talk
from swarm.errors import SwarmError
from swarm.images import catalogue
catalogue.PUBLISHED = (catalogue.Entry(**json.loads(sys.argv[1])),)
try:
    print(images.ensure("image", Talk(Screen())).sha256)
except SwarmError as error:
    sys.exit(error.message)
"""


@pytest.fixture(scope="session")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a real qcow2 image of half a mebibyte."""
    folder = tmp_path_factory.mktemp("content")
    (folder / "raw").write_bytes(random.Random(3).randbytes(512 << 10))  # noqa: S311 - not for secrets
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", folder / "raw", folder / "qcow2"], check=True
    )
    return (folder / "qcow2").read_bytes()


@pytest.fixture
def server(content: bytes) -> Iterator[Publisher]:
    """Start a publisher of the image."""
    with Publisher(content).running() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, server: Publisher, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of an empty cache. The catalog has only the server's image."""
    monkeypatch.setenv("SWARM_CACHE", str(tmp_path))
    monkeypatch.setattr(catalogue, "PUBLISHED", (server.entry(),))
    return tmp_path / "images"


@pytest.fixture
def talk() -> Talk:
    """Return the talk of a run."""
    return Talk(Screen())


def start(entry: Entry, *before: str) -> subprocess.Popen[str]:
    """Start another run of swarm that needs the image."""
    command = [*before, sys.executable, "-c", RUN, json.dumps(asdict(entry))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def wait_for_bytes(server: Publisher, count: int) -> None:
    """Wait until the server has sent `count` bytes of the image."""
    deadline = time.monotonic() + 20
    while server.sent < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_ensure(server: Publisher, folder: Path, talk: Talk, content: bytes) -> None:
    """The first call downloads the image and the second one finds it. Only the image and its sidecar remain."""
    assert images.find("image") is None
    first = images.ensure("image", talk)
    assert first.path.read_bytes() == content
    assert first.virtual_size == 512 << 10
    assert images.ensure("image", talk) == images.find("image") == first
    assert images.cached() == [first]
    assert len(server.asked) == 1
    assert sorted(path.name for path in folder.iterdir()) == [
        ".image.qcow2.lock",
        "image.qcow2",
        "image.qcow2.json",
    ]


def test_remove(server: Publisher, folder: Path, talk: Talk) -> None:
    """Removing an image deletes its sidecar too, and the next request downloads it again."""
    images.remove(images.ensure("image", talk))
    assert images.find("image") is None
    assert images.cached() == []
    assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == []
    images.ensure("image", talk)
    assert len(server.asked) == 2


def test_not_an_image(server: Publisher, folder: Path, talk: Talk) -> None:
    """A file that is not qcow2 is rejected and deleted, even if its checksum is correct."""
    server.content = b"<html>please log in</html>" * 100
    with pytest.raises(ImageError, match="is not a qcow2 file"):
        images.ensure("image", talk)
    assert [path.name for path in folder.iterdir()] == [".image.qcow2.lock"]


def test_no_qemu_img(
    server: Publisher, folder: Path, talk: Talk, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A complete download that could not be checked yet is not fetched again."""
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "")
        with pytest.raises(Unfit, match="qemu-img"):
            images.ensure("image", talk)
    assert images.ensure("image", talk).path.read_bytes() == content
    assert len(server.asked) == 1
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == [
        ".image.qcow2.lock"
    ]


def test_two_processes(server: Publisher, folder: Path, content: bytes) -> None:  # noqa: ARG001
    """If two runs need an image, one downloads it. The other reports that it waits, and uses the result."""
    server.answers.append(Answer(drip=0.01))
    runs = [start(server.entry())]
    wait_for_bytes(server, 4096)
    runs.append(start(server.entry()))
    said = [run.communicate(timeout=30) for run in runs]
    assert said[0][0] == said[1][0] != ""
    assert len(server.asked) == 1
    assert server.sent == len(content)
    assert "waiting for another run that is getting image image" in said[1][1]


@pytest.mark.usefixtures("folder")
def test_threads(server: Publisher, talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    """Several hosts of one run share a download."""
    server.answers.append(Answer(drip=0.002))
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: images.ensure("image", talk), range(4)))
    assert len(set(results)) == 1
    assert len(server.asked) == 1
    assert capsys.readouterr().err.count("waiting for another run") == 3


@pytest.mark.parametrize("after", [1, 100_000, 300_000, 500_000])
def test_killed(server: Publisher, folder: Path, talk: Talk, content: bytes, after: int) -> None:
    """After kill -9 the next run resumes the download at the end of the partial file."""
    server.answers.append(Answer(drip=0.004))
    run = start(server.entry())
    wait_for_bytes(server, after)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    part = folder / ".image.qcow2.part"
    had = part.stat().st_size if part.exists() else 0  # the first byte was sent, but may not have been stored
    assert images.ensure("image", talk).path.read_bytes() == content
    assert server.asked[-1].get("Range") == (f"bytes={had}-" if had else None)


def test_killed_often(server: Publisher, folder: Path, talk: Talk, content: bytes) -> None:
    """Runs that are killed at random moments never damage the image."""
    server.answers += [Answer(drip=0.002)] * 4
    dice = random.Random(4)  # noqa: S311
    for _ in range(4):
        run = start(server.entry())
        time.sleep(dice.uniform(0.3, 0.9))
        run.kill()
        run.communicate()
        found = images.find("image")
        assert found is None or found.path.read_bytes() == content
    assert images.ensure("image", talk).path.read_bytes() == content
    assert {path.name for path in folder.iterdir()} <= {
        ".image.qcow2.lock",
        "image.qcow2",
        "image.qcow2.json",
    }


def test_interrupted(server: Publisher, folder: Path) -> None:
    """Ctrl-C ends a download immediately and keeps the partial file."""
    server.answers.append(Answer(drip=0.01))
    run = start(server.entry())
    wait_for_bytes(server, 40_000)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=5)
    assert (folder / ".image.qcow2.part").stat().st_size > 0


def test_disk_full(server: Publisher, folder: Path, talk: Talk, content: bytes) -> None:
    """A disk that fills up during the download is reported. With free space, the next run succeeds."""
    server.answers.append(
        Answer(length=False)
    )  # hides the size, so that the check of free space cannot fail first
    small = f'mount -t tmpfs -o size=300k none {folder.parent} && exec "$@"'
    run = start(server.entry(), "unshare", "--user", "--map-root-user", "--mount", "sh", "-c", small, "sh")
    _, said = run.communicate(timeout=30)
    if "unshare failed" in said or "mount" in said:
        pytest.skip("no user namespaces here")
    assert run.returncode == 1
    assert f"image image does not fit: {folder} is full" in said
    assert images.ensure("image", talk).path.read_bytes() == content


@pytest.fixture
def secure(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """Return the context of a TLS server, and the certificate that verifies it."""
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")]),
    )
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
    alternative = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    certificate = builder.add_extension(alternative, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    both = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(pem)
    file = tmp_path / "server.pem"
    file.write_bytes(both)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, file


def test_unknown_certificate(
    secure: tuple[ssl.SSLContext, Path], tmp_path: Path, talk: Talk, content: bytes
) -> None:
    """A server with a self-signed certificate is rejected."""
    with Publisher(content, secure[0]).running() as server:
        with pytest.raises(
            ImageError,
            match=r"the TLS certificate of 127\.0\.0\.1 cannot be verified: .*self.signed certificate",
        ):
            download.fetch(server.entry(), tmp_path / "part", talk)
        assert server.asked == []


def test_downgrade(
    secure: tuple[ssl.SSLContext, Path],
    tmp_path: Path,
    talk: Talk,
    server: Publisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A checksum file that is redirected to an unencrypted URL is rejected."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(secure[1]))
    with Publisher(server.content, secure[0]).running() as safe:
        assert download.fetch(safe.entry(), tmp_path / "part", talk).read_bytes() == server.content
        safe.checksum_answers.append(Answer(status=302, location=server.entry().checksums))
        with pytest.raises(ImageError, match="redirects the checksum file to an unencrypted URL"):
            download.fetch(safe.entry(), tmp_path / "part", talk)


def test_downgrade_on_the_way(
    secure: tuple[ssl.SSLContext, Path],
    tmp_path: Path,
    talk: Talk,
    server: Publisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A checksum file that comes over TLS in the end is rejected if one hop of its redirections was unencrypted."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(secure[1]))
    with Publisher(server.content, secure[0]).running() as safe:
        safe.checksum_answers.append(Answer(status=302, location=server.entry().checksums))
        server.checksum_answers.append(Answer(status=302, location=safe.entry().checksums))
        with pytest.raises(ImageError, match="redirects the checksum file to an unencrypted URL"):
            download.fetch(safe.entry(), tmp_path / "part", talk)
    assert not server.checksum_answers
