"""Whole runs of a backup to a real S3 server, also while the server or the way to it fails."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from swarm.backup.catalog import Catalog
from swarm.backup.repository import read_manifest, read_summary
from swarm.backup.store import verify
from swarm.errors import SwarmError
from tests.integration.authority import make_authority, make_certificate
from tests.integration.guest_state import archive_names, make_place, run_backup, touch
from tools.proxy import Proxy, error_answer
from tools.seaweed import Seaweed, serving, use_keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from swarm.backup.now import Report
    from tests.conftest import Dirs
    from tests.integration.guest_state import Place
    from tests.sshd import Sshd

REQUESTS = {
    "part": r"PUT \S+[?&]partNumber=",
    "complete": r"POST \S+[?&]uploadId=",
    "manifest": r"PUT \S+\.manifest\.",
}
MEDIA = 30 << 20  # bytes that do not compress: several parts of a multipart upload


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, authority: Path) -> Iterator[Seaweed]:
    """The S3 server that these tests share."""
    folder = tmp_path_factory.mktemp("seaweed")
    with serving(folder, make_certificate(authority, folder)) as made:
        yield made


@pytest.fixture
def place(
    server: Sshd, keys: Path, dirs: Dirs, store: Seaweed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """A guest with a state directory, the keys of the S3 server, and an empty bucket called zap."""
    use_keys(monkeypatch, tmp_path)
    client = store.client()
    client.create_bucket(Bucket="zap")
    with make_place(server, keys, dirs.hosts.parent) as made:
        made.mirror = dirs.mirrors / made.host
        yield made
    for each in client.list_objects_v2(Bucket="zap").get("Contents", ()):
        client.delete_object(Bucket="zap", Key=each["Key"])
    client.delete_bucket(Bucket="zap")


def run(place: Place, endpoint: str, *more: str, **changed: object) -> Report:
    """Back the guest up to the bucket by way of `endpoint`, and to `more` destinations."""
    settings = {"destinations": ["s3://zap/backups/", *more], "endpoint": endpoint, **changed}
    return run_backup(place, **settings)  # type: ignore[arg-type] # none of them is `force`


@pytest.mark.slow
def test_archives_in_a_bucket(place: Place, store: Seaweed) -> None:
    """Archives in a bucket are verified, found current, listed with their sizes, and removed by retention."""
    first = run(place, store.endpoint, keep=2)
    assert set((first.verified or {}).values()) == {"content"}
    assert run(place, store.endpoint).current == first.archive
    made = [first.archive]
    for number in range(2):
        touch(place, f"[{number}]")
        made.append(run(place, store.endpoint).archive)
    assert archive_names(place) == made[1:]
    rows = Catalog(place.host, place.settings).rows()
    assert [(str(row.name), row.verified) for row in rows] == [(name, "content") for name in made[1:]]
    assert all(row.summary and row.summary.stored for row in rows)


def test_a_bucket_that_is_down(place: Place, store: Seaweed, dirs: Dirs) -> None:
    """While the server is down, the directory gets an archive each night. The run fails and names the bucket."""
    with Proxy(store.endpoint) as proxy:
        endpoint = proxy.endpoint
    for number in range(2):
        touch(place, f"[{number}]")
        done = run(place, endpoint, f"file://{dirs.backups}")
        assert done.exit_code == 1
        assert any("s3://zap/backups/" in error for error in done.errors)
    assert len(list(dirs.backups.glob("*.tar.zst"))) == 2
    healed = run(place, store.endpoint, f"file://{dirs.backups}")
    assert healed.exit_code == 0
    assert archive_names(place).count(str(healed.archive)) == 2


@pytest.mark.slow
def test_a_line_that_breaks_during_the_upload(place: Place, store: Seaweed) -> None:
    """An upload that breaks leaves no archive, the older one stays, and the next run makes a complete one."""
    first = run(place, store.endpoint, keep=1).archive
    (place.state / "media").mkdir()
    (place.state / "media" / "film").write_bytes(os.urandom(MEDIA))
    with Proxy(store.endpoint) as proxy:
        proxy.up = MEDIA // 2
        broken = run(place, proxy.endpoint)
    assert broken.exit_code == 1
    place.settings = place.settings.model_copy(update={"endpoint": store.endpoint})
    assert archive_names(place) == [first]
    healed = run(place, store.endpoint)
    assert (healed.exit_code, archive_names(place)) == (0, [healed.archive])


def grown(place: Place) -> None:
    """Add what needs more than one part of a multipart upload."""
    (place.state / "media").mkdir()
    (place.state / "media" / "film").write_bytes(os.urandom(9 << 20))


@pytest.mark.parametrize("request_line", REQUESTS.values(), ids=REQUESTS.keys())
@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("403 Forbidden", "AccessDenied", "access is denied"),
        # Repeated with growing pauses, before it is given up.
        pytest.param("503 Service Unavailable", "SlowDown", "overloaded", marks=pytest.mark.slow),
    ],
)
def test_a_request_that_is_refused_in_mid_run(
    place: Place, store: Seaweed, request_line: str, status: str, code: str, expected: str
) -> None:
    """A part, the completion or the manifest that the server refuses leaves no archive and no open upload.

    The error names the cause, older archives stay, and the next run makes a complete one.
    """
    first = run(place, store.endpoint, keep=1).archive
    grown(place)
    with Proxy(store.endpoint) as proxy:
        proxy.answer, proxy.only = error_answer(status, code), request_line
        refused = run(place, proxy.endpoint)
    assert (refused.exit_code, refused.verified or {}) == (1, {})
    assert any(expected in error for error in refused.errors), refused.errors
    place.settings = place.settings.model_copy(update={"endpoint": store.endpoint})
    assert archive_names(place) == [first]
    assert "Uploads" not in store.client().list_multipart_uploads(Bucket="zap")
    healed = run(place, store.endpoint)
    assert (healed.exit_code, archive_names(place)) == (0, [healed.archive])


@pytest.mark.slow
@pytest.mark.parametrize("request_line", REQUESTS.values(), ids=REQUESTS.keys())
def test_a_request_that_is_refused_once(place: Place, store: Seaweed, request_line: str) -> None:
    """A server that is overloaded for a moment, whatever is on its way, costs a repeated request and no archive."""
    grown(place)
    with Proxy(store.endpoint) as proxy:
        proxy.answer, proxy.only, proxy.times = (
            error_answer("503 Service Unavailable", "SlowDown"),
            request_line,
            1,
        )
        done = run(place, proxy.endpoint)
    assert proxy.times == 0
    assert (done.exit_code, set((done.verified or {}).values())) == (0, {"content"}), done.errors


def test_a_missing_bucket(place: Place, store: Seaweed) -> None:
    """A bucket that does not exist is named. It is not created, and the mirror is up to date all the same."""
    done = run(place, store.endpoint, destinations=["s3://elsewhere/backups/"])
    assert any("elsewhere" in error for error in done.errors)
    assert "elsewhere" not in [each["Name"] for each in store.client().list_buckets()["Buckets"]]
    assert (place.mirror / "openclaw.json").is_file()


def test_a_server_with_a_certificate_of_a_private_authority(
    place: Place, store: Seaweed, authority: Path
) -> None:
    """With the authority's certificate, a server behind TLS takes archives, which are listed and verified."""
    done = run(place, store.tls_endpoint, ca_certificate=authority)
    assert (done.exit_code, set((done.verified or {}).values())) == (0, {"content"})
    catalog = Catalog(place.host, place.settings)
    [(destination, name)] = catalog.names()
    assert [(row.name, row.problem) for row in catalog.rows()] == [(name, None)]
    summary, manifest = read_summary(destination, name), read_manifest(destination, name, identity=None)
    assert verify(destination, name, summary, manifest) == "content"
    assert run(place, store.tls_endpoint).current == str(name)


@pytest.mark.parametrize(
    ("trusted", "expected", "hint"),
    [
        (None, "certificate of https://.* is not trusted .*issuer", "set backup.ca_certificate"),
        ("another", "certificate of https://.* is not trusted .*issuer", "correct backup.ca_certificate"),
        ("empty", "ca_certificate: .*empty.pem holds no certificate", "correct the host file"),
    ],
)
def test_a_server_whose_certificate_is_not_trusted(
    place: Place, store: Seaweed, tmp_path: Path, trusted: str | None, expected: str, hint: str
) -> None:
    """Without the right authority there is no archive, and the error says which setting to correct."""
    make_authority(tmp_path, "another")
    (tmp_path / "empty.pem").touch()
    chosen = tmp_path / f"{trusted}.pem" if trusted else None
    done = run(place, store.tls_endpoint, ca_certificate=chosen)
    assert (done.exit_code, done.archive, done.verified) == (1, None, None)
    assert re.search(expected, done.errors[0])
    with pytest.raises(SwarmError, match=expected) as caught:
        archive_names(place)
    assert caught.value.hint == hint
    place.settings = place.settings.model_copy(update={"endpoint": store.endpoint, "ca_certificate": None})
    assert archive_names(place) == []


def test_a_server_without_tls_at_an_https_address(place: Place, store: Seaweed) -> None:
    """An endpoint with https:// that speaks plain HTTP is not called untrusted: the hint is about the address."""
    run(place, store.endpoint.replace("http:", "https:"))
    with pytest.raises(SwarmError, match=r"TLS with https://.* failed") as caught:
        archive_names(place)
    assert caught.value.hint == "check whether backup.endpoint should be http:// or https://"
