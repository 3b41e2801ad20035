"""Archives in a real S3 server, over connections that break and with keys that are wrong."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import zlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from swarm.backup.archive import Owners, pack, stored_sha256, unpack
from swarm.backup.probe import probe
from swarm.errors import RemoteError, SwarmError, Unfit
from swarm.s3 import Bucket, Patience
from tests.conftest import ROOT
from tools.proxy import Proxy, error_answer
from tools.seaweed import Seaweed, bucket, serving, use_keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from botocore.awsrequest import AWSPreparedRequest

_MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """The server that all tests share; each has its own bucket."""
    with serving(tmp_path_factory.mktemp("seaweed")) as made:
        yield made


@pytest.fixture(autouse=True)
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The keys that the server accepts, in the file where boto3 looks for them."""
    return use_keys(monkeypatch, tmp_path)


@pytest.fixture
def made(server: Seaweed, request: pytest.FixtureRequest) -> Bucket:
    """An empty bucket for one test."""
    return bucket(server, f"test-{zlib.crc32(request.node.name.encode()):08x}")


@pytest.fixture
def proxy(server: Seaweed) -> Iterator[Proxy]:
    """A proxy in front of the server."""
    with Proxy(server.endpoint) as running:
        yield running


def content(size: int) -> bytes:
    """Return bytes that differ from part to part."""
    return random.Random(size).randbytes(size)  # noqa: S311 - no secret


def through(proxy: Proxy, made: Bucket) -> Bucket:
    """Return the same bucket, reached through the proxy."""
    return Bucket(made.bucket, made.prefix, endpoint=proxy.endpoint, patience=Patience(tries=2, pause=0.01))


@pytest.mark.slow
def test_more_than_three_parts_arrive_complete_and_equal(made: Bucket) -> None:
    """An object of five parts, written in odd pieces, reads back as it was written (seaweedfs#7638)."""
    data = content(34 * _MIB + 7)
    with made.writer("big") as writer:
        for at in range(0, len(data), 1_000_003):
            writer.write(data[at : at + 1_000_003])
        writer.commit()
    assert b"".join(made.read("big")) == data
    assert [(each.name, each.size) for each in made.objects()] == [("big", len(data))]


@pytest.mark.parametrize("size", [0, 1, 8 * _MIB, 8 * _MIB + 1])
def test_sizes_around_one_part(made: Bucket, size: int) -> None:
    """An empty object, a small one, and those around the size of a part are stored as they are."""
    data = content(size)
    with made.writer("edge") as writer:
        writer.write(data)
        writer.commit()
    assert b"".join(made.read("edge")) == data


def test_an_archive_survives_the_trip(made: Bucket, tmp_path: Path) -> None:
    """What pack() writes into a bucket is what unpack() reads from it."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "session.jsonl").write_bytes(content(20 * _MIB))
    with made.writer("archive") as writer:
        packed = pack(tmp_path / "tree", Owners("agent", "agent"), [writer], recipient=None)
        writer.commit()
    assert stored_sha256(made.read("archive")) == (packed.sha256, packed.stored)
    assert unpack(made.read("archive"), None, identity=None).entries == packed.entries


def test_nothing_is_visible_before_commit(made: Bucket) -> None:
    """An upload that is aborted leaves neither an object nor an open upload."""
    with made.writer("never") as writer:
        writer.write(content(20 * _MIB))
        assert made.objects() == []
    assert made.objects() == []
    assert made.sweep(age=timedelta(0)) == 0


def test_a_killed_upload_leaves_nothing_but_what_a_later_run_sweeps(made: Bucket) -> None:
    """After kill -9 there is no object. The open upload is not touched for a day, and then removed."""
    program = (
        "import os, signal; from swarm.s3 import Bucket\n"
        f"writer = Bucket({made.bucket!r}, 'backups', endpoint={made.endpoint!r}).writer('killed')\n"
        "writer.write(bytes(20 << 20)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={**os.environ}, check=False, timeout=120
    )
    assert ended.returncode == -signal.SIGKILL
    assert made.objects() == []
    assert made.sweep() == 0
    assert Bucket(made.bucket, "backups", endpoint=made.endpoint).sweep(age=timedelta(0)) == 0  # not its own
    assert made.sweep(age=timedelta(0)) == 1
    assert made.sweep(age=timedelta(0)) == 0


def test_a_fresh_object_never_replaces_another(made: Bucket) -> None:
    """The commit mark is written only if there is none yet; a repeated attempt with the same content is none."""
    made.put("mark", b"first", fresh=True)
    made.put("mark", b"first", fresh=True)
    with pytest.raises(RemoteError, match="it exists already"):
        made.put("mark", b"second", fresh=True)
    assert b"".join(made.read("mark")) == b"first"


def test_a_missing_object_is_named(made: Bucket) -> None:
    """Reading what does not exist says what and where."""
    with pytest.raises(RemoteError, match=rf"nothing in s3://{made.bucket}/backups/.*does not exist"):
        list(made.read("nothing"))
    assert not made.exists("nothing")
    assert made.delete("nothing") is None


def test_a_missing_bucket_is_not_created(server: Seaweed) -> None:
    """A write into a bucket that does not exist fails, although the server would create it."""
    with pytest.raises(RemoteError, match="the bucket no-such-bucket does not exist"):
        Bucket("no-such-bucket", endpoint=server.endpoint).put("name", b"data")
    names = [each["Name"] for each in server.client().list_buckets()["Buckets"]]
    assert "no-such-bucket" not in names


@pytest.mark.parametrize(
    ("key", "secret", "expected"),
    [
        ("unknown", "swarmsecret", "does not know the access key"),
        ("swarmkey", "wrong", "secret key does not match"),
    ],
)
def test_wrong_keys_are_told_apart(
    made: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, secret: str, expected: str
) -> None:
    """An unknown access key and a wrong secret key are different sentences. The secret is in neither."""
    use_keys(monkeypatch, tmp_path, key, secret)
    with pytest.raises(RemoteError, match=expected) as caught:
        Bucket(made.bucket, endpoint=made.endpoint).check()
    assert "~/.aws/credentials" in str(caught.value)
    assert f" {secret}" not in str(caught.value).replace("secret key", "")


def test_missing_credentials_name_the_file(made: Bucket, credentials: Path) -> None:
    """Without credentials the hint says where they belong."""
    credentials.unlink()
    with pytest.raises(RemoteError, match="there are no credentials") as caught:
        Bucket(made.bucket, endpoint=made.endpoint).check()
    assert "~/.aws/credentials" in str(caught.value.hint)


def test_a_missing_ca_certificate_is_named(tmp_path: Path) -> None:
    """A certificate file that does not exist is an error that names it, and not one of the network."""
    with pytest.raises(Unfit, match=r"ca\.pem does not exist"):
        Bucket("zap", endpoint="https://127.0.0.1:1", ca_certificate=tmp_path / "ca.pem").check()


def test_an_unreachable_server_is_named(proxy: Proxy) -> None:
    """A closed port is an error that names the endpoint."""
    proxy.cut()
    with pytest.raises(RemoteError, match=proxy.endpoint):
        Bucket("zap", endpoint=proxy.endpoint).check()


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("503 Service Unavailable", "SlowDown", "overloaded"),
        ("403 Forbidden", "AccessDenied", "access is denied"),
        ("403 Forbidden", "RequestTimeTooSkewed", "clocks of this machine and the server differ"),
    ],
)
def test_what_the_server_refuses_is_one_sentence(
    proxy: Proxy, made: Bucket, status: str, code: str, expected: str
) -> None:
    """Overload, a missing permission and a wrong clock each have their own sentence and hint (aws-cli#1065)."""
    proxy.answer = error_answer(status, code)
    with pytest.raises(RemoteError, match=expected) as caught:
        through(proxy, made).check()
    assert made.bucket in caught.value.message
    assert caught.value.hint


def upload(there: Bucket, name: str, data: bytes) -> None:
    """Store an object."""
    with there.writer(name) as writer:
        writer.write(data)
        writer.commit()


def test_a_connection_cut_in_mid_upload_leaves_no_object(proxy: Proxy, made: Bucket) -> None:
    """If the connection breaks for good during an upload, there is an error and no object."""
    there = through(proxy, made)
    there.check()
    proxy.up = 12 * _MIB
    with pytest.raises(RemoteError, match=proxy.endpoint):
        upload(there, "cut", content(40 * _MIB))
    assert proxy.broken
    assert made.objects() == []


def test_a_byte_that_changes_on_its_way_leaves_no_object(proxy: Proxy, made: Bucket) -> None:
    """The server refuses a part whose content is not what was sent, and there is an error and no object."""
    there = through(proxy, made)
    there.check()
    proxy.flip = 4 * _MIB
    with pytest.raises(RemoteError, match=r"flipped in s3://.*: data was damaged on its way to the server"):
        upload(there, "flipped", content(12 * _MIB))
    assert made.objects() == []


def test_the_checksum_of_a_part_is_signed(made: Bucket) -> None:
    """Nobody without the key can change a part and its checksum: the checksum's header belongs to the signature."""
    signed: list[str] = []

    def note(request: AWSPreparedRequest, **_: object) -> None:
        signed.append(request.headers["Authorization"].decode())

    made.client(signed=False).meta.events.register("before-send.s3.UploadPart", note)
    with made.writer("signed") as writer:
        writer.write(content(9 * _MIB))
        writer.commit()
    assert len(signed) == 2
    assert all("x-amz-checksum-sha256" in each for each in signed)


def test_a_truncated_body_is_an_error(proxy: Proxy, made: Bucket) -> None:
    """A download that ends early, from a server that is gone, is an error."""
    made.put("object", content(3 * _MIB))
    there = through(proxy, made)
    assert there.exists("object")
    proxy.down = 2 * _MIB
    with pytest.raises(RemoteError, match=r"object in s3://.*(ended early|broke off|closed the connection)"):
        list(there.read("object"))


def test_a_locked_object_is_kept_and_says_until_when(server: Seaweed) -> None:
    """An object under lock is not deleted; the result is the time until which it is retained."""
    client = server.client()
    client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    client.put_object(
        Bucket="locked",
        Key="backups/kept",
        Body=b"x",
        ObjectLockMode="GOVERNANCE",
        ObjectLockRetainUntilDate=until,
    )
    there = Bucket("locked", "backups", endpoint=server.endpoint)
    assert there.delete("kept") == until
    assert there.exists("kept")


def test_the_probe_tells_what_the_server_supports(made: Bucket) -> None:
    """Every feature of a real server is reported as good, and the probe leaves nothing behind."""
    found = probe(made)
    assert [what for what, _, _ in found] == [
        "access", "write and read", "conditional PUT", "clock", "checksums", "versioning", "object lock", "delete",
    ]  # fmt: skip
    assert all(ok for _, ok, _ in found), found
    assert made.objects() == []


def test_the_probe_reports_a_missing_bucket(server: Seaweed) -> None:
    """The probe of a bucket that does not exist is one finding, not an error."""
    [(what, ok, detail)] = probe(Bucket("not-there", endpoint=server.endpoint))
    assert (what, ok) == ("access", False)
    assert "the bucket not-there does not exist" in detail


def test_a_sink_that_fails_does_not_end_the_others(made: Bucket, tmp_path: Path) -> None:
    """While one destination is down, the archive still reaches the other, and the result names the failure."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(content(20 * _MIB))

    class Broken:
        def write(self, _data: bytes) -> None:
            raise SwarmError("the other destination is down")

    with made.writer("archive") as writer:
        packed = pack(tmp_path / "tree", Owners("agent", "agent"), [Broken(), writer], recipient=None)
        writer.commit()
    assert [error.message for _, error in packed.failures] == ["the other destination is down"]
    assert stored_sha256(made.read("archive"))[0] == packed.sha256
