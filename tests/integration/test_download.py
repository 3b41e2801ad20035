"""Downloads over connections that break, stall, lie and change, from a real HTTP server."""

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
from swarm.images.download import Patience, fetch
from tests.integration.image_server import Answer, Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = random.Random(1).randbytes(300_000)  # noqa: S311 - bytes that repeat nothing, the same ones each time
OTHER = random.Random(2).randbytes(250_000)  # noqa: S311
QUICK = Patience(connect=2, silence=0.3, tries=4, pause=0.001, longest=0.01)


@pytest.fixture
def server() -> Iterator[Publisher]:
    """Start a publisher of CONTENT."""
    with Publisher(CONTENT).running() as running:
        yield running


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """Name the partial file, which is not there yet."""
    return tmp_path / ".image.part"


@pytest.fixture
def talk() -> Talk:
    """Give the talk of a run."""
    return Talk(Screen())


def ranges(server: Publisher) -> list[str | None]:
    """What each request for the image asked for."""
    return [headers.get("Range") for headers in server.asked]


def test_whole(server: Publisher, part: Path, talk: Talk) -> None:
    """A good server is asked once, for everything, and nothing is left beside the file."""
    assert fetch(server.entry(), part, talk, QUICK).read_bytes() == CONTENT
    assert ranges(server) == [None]
    assert [path.name for path in part.parent.iterdir()] == [part.name]


def test_goes_on_within_a_run(server: Publisher, part: Path, talk: Talk) -> None:
    """After a break only the rest is asked for, on condition that the file is still the same."""
    server.answers.append(Answer(stop_after=100_000))
    assert fetch(server.entry(), part, talk, QUICK).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=100000-"]
    assert server.asked[1]["If-Range"] == server.etag
    assert server.sent == len(CONTENT)


def test_goes_on_in_the_next_run(server: Publisher, part: Path, talk: Talk) -> None:
    """What a failed run has fetched is kept, and the next run fetches only the rest."""
    server.answers += [Answer(stop_after=100_000), Answer(status=503)]
    with pytest.raises(ImageError, match=r"cannot be downloaded: 127\.0\.0\.1 answers 503") as caught:
        fetch(server.entry(), part, talk, Patience(tries=2, pause=0.001))
    assert "goes on where it stopped" in str(caught.value.hint)
    assert fetch(server.entry(), part, talk, QUICK).read_bytes() == CONTENT
    assert server.sent == len(CONTENT)


def test_date_instead_of_tag(server: Publisher, part: Path, talk: Talk) -> None:
    """A weak ETag proves nothing about bytes, so the date of the last change is used instead."""
    server.tag = 'W/"weak"'
    server.answers.append(Answer(stop_after=100_000))
    assert fetch(server.entry(), part, talk, QUICK).read_bytes() == CONTENT
    assert server.asked[1]["If-Range"] == server.changed


def test_no_validator(server: Publisher, part: Path, talk: Talk) -> None:
    """Without ETag and date there is no safe way to go on: the download starts over."""
    server.tag = server.changed = ""
    server.answers.append(Answer(stop_after=100_000))
    assert fetch(server.entry(), part, talk, QUICK).read_bytes() == CONTENT
    assert ranges(server) == [None, None]


def test_changed_between_runs(server: Publisher, part: Path, talk: Talk) -> None:
    """A file that was replaced at the publisher's is fetched anew, with no old byte in it."""
    server.answers += [Answer(stop_after=100_000), Answer(status=404)]
    with pytest.raises(ImageError):
        fetch(server.entry(), part, talk, QUICK)
    server.content = OTHER
    assert fetch(server.entry(), part, talk, QUICK).read_bytes() == OTHER
    assert ranges(server)[-1] is None


def test_changed_within_a_run(server: Publisher, part: Path, talk: Talk) -> None:
    """A file that is replaced while it is being fetched is fetched anew under its new checksum."""
    server.stated = [OTHER]  # the checksum file was read just before the change
    assert fetch(server.entry(), part, talk, QUICK).read_bytes() == CONTENT


def test_other_tag_same_file(server: Publisher, part: Path, talk: Talk) -> None:
    """Where If-Range does not match, the server sends everything, and nothing of the first part is kept."""
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
        pytest.param(Answer(off_by=7), id="another part than asked for"),
        pytest.param(Answer(status=416), id="416 without a length"),
        pytest.param(Answer(stall=1), id="stalls"),
        pytest.param(Answer(length=False, stop_after=50_000), id="breaks without a length"),
        pytest.param(Answer(stop_after=0), id="breaks at once"),
        pytest.param(Answer(status=503), id="503"),
        pytest.param(Answer(status=429), id="429"),
    ],
)
@pytest.mark.parametrize(
    "first", [Answer(stop_after=100_000), Answer(length=False, stop_after=100_000), Answer(stop_after=0)]
)
def test_bad_servers(server: Publisher, part: Path, talk: Talk, first: Answer, answer: Answer) -> None:
    """Whatever a server does wrong after a first break, the file that comes out is right."""
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
    """Any sequence of breaks and odd answers ends with the right bytes."""
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
    """A file with another checksum than the publisher's is thrown away, and the error says so."""
    server.stated = [OTHER, OTHER]
    with pytest.raises(ImageError, match="is damaged and was deleted"):
        fetch(server.entry(), part, talk, QUICK)
    assert list(part.parent.iterdir()) == []
    assert fetch(server.entry(), part, talk, QUICK).read_bytes() == CONTENT


def test_damaged_without_length(server: Publisher, part: Path, talk: Talk) -> None:
    """A damaged file of unknown length is recognised once the server says that there is no more of it."""
    server.stated = [OTHER, OTHER]
    server.answers.append(Answer(length=False))
    with pytest.raises(ImageError, match="is damaged and was deleted"):
        fetch(server.entry(), part, talk, QUICK)
    assert ranges(server) == [None, f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize("status", [403, 404, 410])
def test_final_answers(server: Publisher, part: Path, talk: Talk, status: int) -> None:
    """An answer that will not change is reported at once, with the address and a hint."""
    server.answers.append(Answer(status=status))
    with pytest.raises(
        ImageError, match=rf"image\.qcow2 cannot be fetched: 127\.0\.0\.1 answers {status}"
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
    """A server that stays broken is asked a limited number of times."""
    server.answers += [Answer(status=503)] * 99
    with pytest.raises(ImageError, match="answers 503"):
        fetch(server.entry(), part, talk, QUICK)
    assert len(server.asked) == QUICK.tries


def test_silent(server: Publisher, part: Path, talk: Talk) -> None:
    """A server that goes silent again and again is named as silent."""
    server.answers += [Answer(stall=1, stop_after=0)] * 9
    with pytest.raises(ImageError, match="cannot be downloaded: the server has gone silent"):
        fetch(server.entry(), part, talk, Patience(silence=0.1, tries=2, pause=0.001))


def test_nobody_listens(part: Path, talk: Talk) -> None:
    """A port that nobody listens at is one sentence, with a way out."""
    publisher = Publisher(CONTENT)
    publisher.server_close()
    with pytest.raises(ImageError, match=r"127\.0\.0\.1 cannot be reached: .*refused") as caught:
        fetch(publisher.entry(), part, talk, QUICK)
    assert "is this machine online?" in str(caught.value.hint)


def test_no_such_name(part: Path, talk: Talk, server: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that DNS does not know is named."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)  # no name server may be asked by tests
    with pytest.raises(ImageError, match=r"the name 127\.0\.0\.1 cannot be resolved"):
        fetch(server.entry(), part, talk, QUICK)


def test_no_space_before(server: Publisher, part: Path, talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot fit is refused before its first byte is fetched."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(ImageError, match=r"image needs 0\.3 MiB more, and .* has 0\.0 MiB free") as caught:
        fetch(server.entry(), part, talk, QUICK)
    assert "make room" in str(caught.value.hint)
    assert not part.exists()


def test_checksum_is_the_whole_files(server: Publisher, part: Path, talk: Talk) -> None:
    """A first part that was changed on disk between two runs is noticed."""
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
