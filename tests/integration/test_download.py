"""Downloads from a real HTTP server that breaks off, stalls, and sends wrong or changed data."""

from __future__ import annotations

import hashlib
import random
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarm.console import Screen, Talk
from swarm.errors import ImageError
from swarm.images.download import Patience, fetch, settle
from tests.integration.image_server import Answer, Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = random.Random(1).randbytes(300_000)  # noqa: S311 - the same incompressible bytes each time
OTHER = random.Random(2).randbytes(250_000)  # noqa: S311
QUICK = Patience(connect=2, silence=0.3, tries=4, pause=0.001, longest=0.01)


@pytest.fixture
def server() -> Iterator[Publisher]:
    """Start a publisher of CONTENT."""
    with Publisher(CONTENT).running() as running:
        yield running


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """Return the path of the partial file, which does not exist yet."""
    return tmp_path / ".image.part"


@pytest.fixture
def talk() -> Talk:
    """Return the talk of a run."""
    return Talk(Screen())


def ranges(server: Publisher) -> list[str | None]:
    """Return the Range header of each request for the image."""
    return [headers.get("Range") for headers in server.asked]


def test_complete_download(server: Publisher, part: Path, talk: Talk) -> None:
    """A well-behaved server gets one request for the whole file, also in two runs, and no other file is left behind."""
    for _ in range(2):
        assert fetch(server.entry(), part, talk, QUICK).read_bytes() == CONTENT
        settle(part)
        assert ranges(server) == [None]
    part.rename(part.with_name("image"))
    settle(part)
    assert [path.name for path in part.parent.iterdir()] == ["image"]


def test_resumes_within_a_run(server: Publisher, part: Path, talk: Talk) -> None:
    """After a broken connection only the rest is requested, provided that the file is unchanged."""
    server.answers.append(Answer(stop_after=100_000))
    assert fetch(server.entry(), part, talk, QUICK).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=100000-"]
    assert server.asked[1]["If-Range"] == server.etag
    assert server.sent == len(CONTENT)


def test_resumes_in_the_next_run(server: Publisher, part: Path, talk: Talk) -> None:
    """The bytes of a failed run are kept, and the next run downloads only the rest."""
    server.answers += [Answer(stop_after=100_000), Answer(status=503)]
    with pytest.raises(ImageError, match=r"cannot be downloaded: 127\.0\.0\.1 responded with 503") as caught:
        fetch(server.entry(), part, talk, Patience(tries=2, pause=0.001))
    assert "continues where it stopped" in str(caught.value.hint)
    assert fetch(server.entry(), part, talk, QUICK).read_bytes() == CONTENT
    assert server.sent == len(CONTENT)


@pytest.mark.parametrize("location", ["http://[x", "http://a..b/image.qcow2", "http://[::1"])
def test_a_redirect_to_no_url(server: Publisher, part: Path, talk: Talk, location: str) -> None:
    """A redirect to what is no URL is one error."""
    server.answers.append(Answer(status=302, location=location))
    with pytest.raises(ImageError, match=r"image\.qcow2 cannot be fetched"):
        fetch(server.entry(), part, talk, QUICK)


def test_a_length_that_no_file_has(server: Publisher, part: Path, talk: Talk) -> None:
    """A stated length of thousands of digits is like none: the checksum decides."""
    server.answers.append(Answer(stated="9" * 5000))
    assert fetch(server.entry(), part, talk, QUICK).read_bytes() == CONTENT


def test_date_instead_of_tag(server: Publisher, part: Path, talk: Talk) -> None:
    """A weak ETag does not identify the bytes, so Last-Modified is used instead."""
    server.tag = 'W/"weak"'
    server.answers.append(Answer(stop_after=100_000))
    assert fetch(server.entry(), part, talk, QUICK).read_bytes() == CONTENT
    assert server.asked[1]["If-Range"] == server.changed


def test_no_validator(server: Publisher, part: Path, talk: Talk) -> None:
    """Without an ETag and a date it is not safe to resume, so the download starts over."""
    server.tag = server.changed = ""
    server.answers.append(Answer(stop_after=100_000))
    assert fetch(server.entry(), part, talk, QUICK).read_bytes() == CONTENT
    assert ranges(server) == [None, None]


def test_changed_between_runs(server: Publisher, part: Path, talk: Talk) -> None:
    """A file that the publisher has replaced is downloaded from the start, without any old byte."""
    server.answers += [Answer(stop_after=100_000), Answer(status=404)]
    with pytest.raises(ImageError):
        fetch(server.entry(), part, talk, QUICK)
    server.content = OTHER
    assert fetch(server.entry(), part, talk, QUICK).read_bytes() == OTHER
    assert ranges(server)[-1] is None


def test_changed_within_a_run(server: Publisher, part: Path, talk: Talk) -> None:
    """A file that is replaced during the download is downloaded again with its new checksum."""
    server.stated = [OTHER]  # the checksum file was read just before the change
    assert fetch(server.entry(), part, talk, QUICK).read_bytes() == CONTENT


def test_other_tag_same_file(server: Publisher, part: Path, talk: Talk) -> None:
    """If If-Range does not match, the server sends the whole file, and the first part is discarded."""
    server.answers += [Answer(stop_after=100_000), Answer(status=404)]
    with pytest.raises(ImageError):
        fetch(server.entry(), part, talk, QUICK)
    server.tag = '"another"'
    assert fetch(server.entry(), part, talk, QUICK).read_bytes() == CONTENT
    assert server.sent == 100_000 + len(CONTENT)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(ranges=False), id="ignores Range"),
        pytest.param(Answer(off_by=7), id="sends a different range"),
        pytest.param(Answer(status=416), id="416 without a length"),
        pytest.param(Answer(stall=1), id="stalls"),
        pytest.param(Answer(length=False, stop_after=50_000), id="breaks without a length"),
        pytest.param(Answer(stop_after=0), id="breaks immediately"),
        pytest.param(Answer(status=503), id="503"),
        pytest.param(Answer(status=429), id="429"),
    ],
)
@pytest.mark.parametrize(
    "first", [Answer(stop_after=100_000), Answer(length=False, stop_after=100_000), Answer(stop_after=0)]
)
def test_bad_servers(server: Publisher, part: Path, talk: Talk, first: Answer, answer: Answer) -> None:
    """The file is correct, whatever a server does wrong after the first broken connection."""
    server.answers += [first, answer]
    assert fetch(server.entry(), part, talk, QUICK).read_bytes() == CONTENT


@given(
    st.lists(
        st.builds(
            Answer,
            stop_after=st.one_of(st.integers(0, 3), st.integers(0, len(CONTENT))),
            ranges=st.booleans(),
            length=st.booleans(),
            off_by=st.sampled_from([0, 0, 0, 1]),
            status=st.sampled_from([0, 0, 0, 0, 503, 416]),
        ),
        max_size=8,
    ),
    st.sampled_from([None, "", 'W/"weak"']),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_breaks(tmp_path_factory: pytest.TempPathFactory, answers: list[Answer], tag: str | None) -> None:
    """Any sequence of broken connections and wrong responses ends with the correct bytes."""
    with Publisher(CONTENT).running() as server:
        server.tag = tag
        server.answers += answers
        part = tmp_path_factory.mktemp("any") / "part"
        assert (
            fetch(
                server.entry(), part, Talk(Screen(), quiet=True), Patience(silence=2, tries=20, pause=0)
            ).read_bytes()
            == CONTENT
        )


def test_damaged(server: Publisher, part: Path, talk: Talk) -> None:
    """A file that does not match the publisher's checksum is deleted, and the error reports it."""
    server.stated = [OTHER, OTHER]
    with pytest.raises(ImageError, match="is damaged and was deleted"):
        fetch(server.entry(), part, talk, QUICK)
    assert list(part.parent.iterdir()) == []
    assert fetch(server.entry(), part, talk, QUICK).read_bytes() == CONTENT


def test_damaged_without_length(server: Publisher, part: Path, talk: Talk) -> None:
    """A damaged file of unknown length is detected when the server confirms that it is complete."""
    server.stated = [OTHER, OTHER]
    server.answers.append(Answer(length=False))
    with pytest.raises(ImageError, match="is damaged and was deleted"):
        fetch(server.entry(), part, talk, QUICK)
    assert ranges(server) == [None, f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize("status", [403, 404, 410])
def test_permanent_failures(server: Publisher, part: Path, talk: Talk, status: int) -> None:
    """A permanent failure is reported immediately, with the URL and a hint."""
    server.answers.append(Answer(status=status))
    with pytest.raises(
        ImageError, match=rf"image\.qcow2 cannot be fetched: 127\.0\.0\.1 responded with {status}"
    ) as caught:
        fetch(server.entry(), part, talk, QUICK)
    assert caught.value.hint
    assert len(server.asked) == 1


def test_checksum_file_missing(server: Publisher, part: Path, talk: Talk) -> None:
    """Without the publisher's checksum file nothing is downloaded."""
    server.checksum_answers.append(Answer(status=404))
    with pytest.raises(ImageError, match="SHA256SUMS cannot be fetched"):
        fetch(server.entry(), part, talk, QUICK)
    assert server.asked == []


def test_gives_up(server: Publisher, part: Path, talk: Talk) -> None:
    """A server that keeps failing gets a limited number of requests."""
    server.answers += [Answer(status=503)] * 99
    with pytest.raises(ImageError, match="responded with 503"):
        fetch(server.entry(), part, talk, QUICK)
    assert len(server.asked) == QUICK.tries


def test_silent(server: Publisher, part: Path, talk: Talk) -> None:
    """A server that repeatedly stops sending is reported as such."""
    server.answers += [Answer(stall=1, stop_after=0)] * 9
    with pytest.raises(ImageError, match="cannot be downloaded: the server stopped sending"):
        fetch(server.entry(), part, talk, Patience(silence=0.1, tries=2, pause=0.001))


def test_connection_refused(part: Path, talk: Talk) -> None:
    """A refused connection is reported with a hint."""
    publisher = Publisher(CONTENT)
    publisher.server_close()
    with pytest.raises(ImageError, match=r"127\.0\.0\.1 cannot be reached: .*refused") as caught:
        fetch(publisher.entry(), part, talk, QUICK)
    assert "check this machine's network" in str(caught.value.hint)


def test_unresolvable_name(
    part: Path, talk: Talk, server: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that cannot be resolved is reported by name."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)  # tests must not query a name server
    with pytest.raises(ImageError, match=r"the name 127\.0\.0\.1 cannot be resolved"):
        fetch(server.entry(), part, talk, QUICK)


def test_no_space_before(server: Publisher, part: Path, talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that does not fit is rejected before its first byte is downloaded."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(ImageError, match=r"image needs 0\.3 MiB more, and .* has 0\.0 MiB free") as caught:
        fetch(server.entry(), part, talk, QUICK)
    assert "make room" in str(caught.value.hint)
    assert not part.exists()


def test_checksum_covers_the_whole_file(server: Publisher, part: Path, talk: Talk) -> None:
    """A partial file that was changed on disk between two runs is detected."""
    server.answers += [Answer(stop_after=100_000), Answer(status=404)]
    with pytest.raises(ImageError):
        fetch(server.entry(), part, talk, QUICK)
    part.write_bytes(b"x" * 100_000)
    with pytest.raises(ImageError, match="is damaged and was deleted"):
        fetch(server.entry(), part, talk, QUICK)
    assert (
        hashlib.sha256(fetch(server.entry(), part, talk, QUICK).read_bytes()).digest()
        == hashlib.sha256(CONTENT).digest()
    )
