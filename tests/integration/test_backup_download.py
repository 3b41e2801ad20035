"""Downloads from a real S3 server over connections that break in the middle, in the clear and inside TLS."""

from __future__ import annotations

import os
import random
import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from swarm.backup.manifest import Manifest
from swarm.backup.naming import Name
from swarm.backup.owners import Owners
from swarm.backup.repository import read_manifest, read_summary
from swarm.backup.store import Place, store, verify
from swarm.errors import RemoteError
from swarm.inventory import BackupSettings
from swarm.s3 import Bucket, Patience
from tests.integration.authority import make_certificate
from tools.proxy import Proxy
from tools.seaweed import Seaweed, serving, use_keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Literal

    from swarm.backup.archive import Packed
    from tests.conftest import Dirs

_MIB = 1 << 20
_SIZE = 6 * _MIB + 7
_QUICK = Patience(silence=2, tries=4, pause=0.01)
_FIRST, _OTHER = (random.Random(seed).randbytes(_SIZE) for seed in (1, 2))  # noqa: S311 - no secret


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Path) -> Iterator[Seaweed]:
    """The server that all tests share, with a bucket."""
    folder = tmp_path_factory.mktemp("seaweed")
    with serving(folder, make_certificate(authority, folder)) as made:
        made.client().create_bucket(Bucket="zap")
        yield made


@pytest.fixture
def made(
    server: Seaweed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Bucket:
    """A prefix of the bucket with one object, and the keys that the server accepts."""
    use_keys(monkeypatch, tmp_path)
    there = Bucket("zap", f"test-{zlib.crc32(request.node.name.encode()):08x}", endpoint=server.endpoint)
    there.put("object", _FIRST)
    return there


@pytest.fixture
def proxy(server: Seaweed) -> Iterator[Proxy]:
    """A proxy in front of the server."""
    with Proxy(server.endpoint) as running:
        yield running


def through(proxy: Proxy, made: Bucket) -> Bucket:
    """Return the same bucket, reached through the proxy."""
    return Bucket(made.bucket, made.prefix, endpoint=proxy.endpoint, patience=_QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["closed", "reset", "silent"])
def test_a_download_continues_where_it_stopped(
    made: Bucket, proxy: Proxy, how: Literal["closed", "reset", "silent"]
) -> None:
    """Whether a connection is closed, reset or silent: the rest is requested, and no byte comes twice or never."""
    proxy.how, proxy.cuts = how, [2 * _MIB + 700, 3 * _MIB]
    assert b"".join(through(proxy, made).read("object")) == _FIRST
    assert proxy.accepted == 3
    if how != "reset":  # a reset also discards what had arrived
        assert proxy.passed < _SIZE + 3 * _MIB  # it did not start over


def test_a_download_inside_tls_continues(made: Bucket, server: Seaweed, authority: Path) -> None:
    """A connection that breaks inside TLS is no question of trust: the rest is requested as well."""
    with Proxy(server.tls_endpoint) as proxy:
        proxy.cuts = [2 * _MIB, 3 * _MIB]
        endpoint = proxy.endpoint.replace("http:", "https:")
        there = Bucket(made.bucket, made.prefix, endpoint=endpoint, ca_certificate=authority, patience=_QUICK)
        assert b"".join(there.read("object")) == _FIRST
        assert proxy.accepted == 3


def test_progress_earns_new_attempts(made: Bucket, proxy: Proxy) -> None:
    """Attempts are counted from the last progress: a line that breaks after each megabyte is no reason to give up."""
    proxy.cuts = [_MIB + 65536] * 5
    assert b"".join(through(proxy, made).read("object")) == _FIRST


def test_a_download_gives_up_after_a_few_attempts(made: Bucket, proxy: Proxy) -> None:
    """Without progress the attempts are few, and the error says how far the download got."""
    proxy.cuts = [2 * _MIB, *[1] * 20]
    with pytest.raises(
        RemoteError, match=rf"object in s3://.*of {_SIZE} bytes received, 4 attempts"
    ) as caught:
        list(through(proxy, made).read("object"))
    assert caught.value.hint
    assert proxy.accepted == 4


def test_an_object_that_was_replaced_is_never_mixed(made: Bucket, proxy: Proxy) -> None:
    """If the object is another one when the download continues, it is an error, and no byte of the new one is read."""
    proxy.cuts = [3 * _MIB]
    received: list[bytes] = []

    def receive() -> None:
        for chunk in through(proxy, made).read("object"):
            received.append(chunk)
            made.put("object", _OTHER)

    with pytest.raises(RemoteError, match=r"object in s3://.*was replaced during the download") as caught:
        receive()
    assert received
    assert _FIRST.startswith(b"".join(received))
    assert caught.value.hint == "run the command again"


def test_an_object_that_was_deleted_is_missing(made: Bucket, proxy: Proxy) -> None:
    """If the object is gone when the download continues, the error says that it does not exist."""
    proxy.cuts = [3 * _MIB]
    chunks = through(proxy, made).read("object")
    next(iter(chunks))
    made.delete("object")
    with pytest.raises(RemoteError, match="the object does not exist"):
        list(chunks)


def test_an_archive_is_read_over_a_line_that_breaks(
    made: Bucket, proxy: Proxy, tmp_path: Path, dirs: Dirs
) -> None:
    """Summary, manifest and archive are verified although each connection breaks: at once, in a header, in a body."""
    assert dirs.state  # swarm's key, which signs the summary, belongs to the test
    name = Name("zap", datetime(2026, 11, 25, 3, tzinfo=UTC))
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "film").write_bytes(os.urandom(5 * _MIB))

    def describe(packed: Packed) -> Manifest:
        return Manifest("zap", "now", "agent", packed.entries)

    store(name, tmp_path / "tree", Owners("agent", "agent"), [Place(made)], BackupSettings(), describe)
    there = through(proxy, made)
    proxy.cuts = [0, 100, 600, 900, 2 * _MIB, 10, 2 * _MIB]
    summary, manifest = read_summary(there, name), read_manifest(there, name, identity=None)
    assert verify(there, name, summary, manifest) == "content"
    assert not proxy.cuts
