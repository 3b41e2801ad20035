"""The receiver of agentmon's events, over real sockets on loopback."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from swarm.agentmon.envelope import Limits as BodyLimits
from swarm.agentmon.receiver import Limits, Receiver
from swarm.errors import Unfit
from tests.agentmon_events import event

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 60  # seconds, on a loaded machine


@contextmanager
def receiving(**options: Any) -> Iterator[tuple[Receiver, list[Any]]]:
    """Run a receiver whose reader keeps everything: events, and refusals as (status, problem)."""
    found: list[Any] = []
    over = threading.Event()
    with Receiver(**options) as receiver:

        def read() -> None:
            while not over.is_set():
                with receiver.take(0.05) as delivery:
                    if delivery:
                        found.extend(delivery.events or [(delivery.status, delivery.problem)])

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield receiver, found
        finally:
            over.set()
            reader.join()


def post(
    receiver: Receiver, body: bytes | str, path: str = "/v1/events", *, method: str = "POST", **headers: str
) -> tuple[int, dict[str, Any]]:
    """Send one request. Return the status and the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=PATIENCE)
    try:
        connection.request(
            method, path, body, {name.replace("_", "-"): text for name, text in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"{}")
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (json.dumps(event()), 1),
        (json.dumps([event(), event(), event()]), 3),
        (json.dumps(event()) + "\n" + json.dumps(event()) + "\n", 2),
    ],
    ids=["single", "array", "ndjson"],
)
def test_each_form_of_a_batch_is_accepted(body: str, count: int) -> None:
    """A valid body is answered with 202 and handed to the reader, in each of the three forms."""
    with receiving() as (receiver, found):
        assert post(receiver, body) == (202, {"accepted": count})
        assert len(found) == count


def test_a_refused_body_names_the_field() -> None:
    """An invalid event is answered with 400 and its reason, and the reader hears of it."""
    with receiving() as (receiver, found):
        status, answer = post(receiver, json.dumps(event(type="tool")))
        assert status == 400
        assert answer["error"].startswith("event.type: expected one of session.start")
    assert found == [(400, answer["error"])]


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/", "POST", 404), ("/v1/events/", "POST", 404), ("/v1", "GET", 404), ("/v1/events", "GET", 405)],
)
def test_everything_else_is_not_there(path: str, method: str, status: int) -> None:
    """Another path is answered with 404, another method with 405, and nothing is stored."""
    with receiving() as (receiver, found):
        assert post(receiver, json.dumps(event()), path, method=method)[0] == status
    assert [each[0] for each in found] == [status]


def test_a_query_does_not_change_the_path() -> None:
    """A query after the path is ignored."""
    with receiving() as (receiver, _):
        assert post(receiver, json.dumps(event()), "/v1/events?source=x")[0] == 202


def test_the_token_is_required() -> None:
    """With a token, only a request that brings exactly it is accepted, and the answer does not show it."""
    with receiving(token="kestrel-42") as (receiver, found):
        for sent in ({}, {"Authorization": "Bearer kestrel"}, {"Authorization": "kestrel-42"}):
            status, answer = post(receiver, json.dumps(event()), **sent)
            assert status == 401
            assert "kestrel" not in str(answer)
        assert post(receiver, json.dumps(event()), Authorization="Bearer kestrel-42")[0] == 202
    assert len(found) == 4


def test_a_body_at_the_limit_passes_and_one_above_does_not() -> None:
    """A body of exactly the limit is read. One byte more is answered with 413 although it was never read."""
    text = json.dumps(event())
    limits = Limits(body=BodyLimits(size=len(text) + 1))
    with receiving(limits=limits) as (receiver, _):
        assert post(receiver, text + " ")[0] == 202
        assert post(receiver, text + "  ")[0] == 413


def test_a_large_refused_body_still_sees_its_answer() -> None:
    """A client that sends 4 MB although 1 MB is the limit reads 413 instead of a reset connection."""
    with receiving(limits=Limits(body=BodyLimits(size=1 << 20))) as (receiver, _):
        assert post(receiver, b"x" * (4 << 20))[0] == 413


def test_too_many_events_are_too_large() -> None:
    """A batch of more events than the limit is answered with 413, so that a client splits it."""
    with receiving(limits=Limits(body=BodyLimits(events=2))) as (receiver, _):
        assert post(receiver, json.dumps([event(), event()]))[0] == 202
        assert post(receiver, json.dumps([event(), event(), event()]))[0] == 413


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"", 411),
        (b"Transfer-Encoding: chunked\r\n", 411),
        (b"Content-Length: -1\r\n", 400),
        (b"Content-Length: 5\r\nContent-Length: 6\r\n", 400),
        (b"Content-Length: " + b"9" * 5000 + b"\r\n", 413),
    ],
)
def test_a_length_that_cannot_be_trusted_is_refused(headers: bytes, status: int) -> None:
    """A request without a plain Content-Length is refused before its body is read."""
    with receiving() as (receiver, _):
        assert _raw(receiver, b"POST /v1/events HTTP/1.1\r\n" + headers + b"\r\n").startswith(
            f"HTTP/1.1 {status} ".encode()
        )


def _raw(receiver: Receiver, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=PATIENCE) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


def test_bytes_that_are_not_http_are_refused() -> None:
    """A client that speaks another protocol gets an answer, and the next request is served."""
    with receiving() as (receiver, _):
        assert b"400" in _raw(receiver, b"\x16\x03\x01\x02\x00\x01\r\n\r\n")
        assert post(receiver, json.dumps(event()))[0] == 202


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_an_invalid_url_is_refused(method: str) -> None:
    """A URL that can't be read is answered with 400, and the next request is served."""
    with receiving() as (receiver, found):
        request = f"{method} http://[ HTTP/1.1\r\nContent-Length: 0\r\n\r\n".encode()
        assert _raw(receiver, request).startswith(b"HTTP/1.1 400 ")
        assert post(receiver, json.dumps(event()))[0] == 202
    assert found[0] == (400, "the URL is invalid")


def test_a_client_that_drips_bytes_times_out() -> None:
    """A body that arrives byte by byte is ended with 408 at the request's own limit."""
    with receiving(limits=Limits(request=0.5)) as (receiver, found):
        with socket.create_connection(("127.0.0.1", receiver.port), timeout=PATIENCE) as client:
            client.sendall(b"POST /v1/events HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
            answer = _dripped(client)
        assert answer.startswith(b"HTTP/1.1 408 ")
    assert found == [(408, "the request took more than 0 s")]


def _dripped(client: socket.socket) -> bytes:
    """Send a byte every 50 ms until there is an answer, and return it."""
    client.settimeout(0.05)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        client.send(b" ")
        try:
            return client.recv(1 << 16)
        except TimeoutError:
            continue
    return b""


def test_idle_clients_do_not_keep_others_out_for_long() -> None:
    """When every thread waits for a silent client, the next one is told to come back, and later succeeds."""
    with receiving(limits=Limits(threads=2, idle=1, request=1)) as (receiver, _):
        silent = [socket.create_connection(("127.0.0.1", receiver.port)) for _ in range(2)]
        statuses = set()
        until = time.monotonic() + PATIENCE
        while 202 not in statuses and time.monotonic() < until:
            try:
                statuses.add(post(receiver, json.dumps(event()))[0])
            except ConnectionError:  # answered and closed before the request was sent
                statuses.add(503)
            time.sleep(0.05)
        for each in silent:
            each.close()
    assert statuses == {202, 503}


def test_a_reader_that_fails_is_no_success() -> None:
    """If the reader raises, the client is told 503, and never that its events were stored."""
    answers: list[int] = []
    with Receiver() as receiver:
        client = threading.Thread(target=lambda: answers.append(post(receiver, json.dumps(event()))[0]))
        client.start()
        with pytest.raises(BrokenPipeError), receiver.take(PATIENCE):
            raise BrokenPipeError
        client.join()
    assert answers == [503]


def test_a_receiver_that_ends_stores_nothing_more() -> None:
    """A request that waits for the reader when the receiver ends is told 503."""
    answers: list[int] = []
    with Receiver() as receiver:
        client = threading.Thread(target=lambda: answers.append(post(receiver, json.dumps(event()))[0]))
        client.start()
        while not receiver.waiting:
            time.sleep(0.01)
    client.join()
    assert answers == [503]


def test_a_used_port_is_an_error_with_a_hint() -> None:
    """A port that another program listens on is named."""
    with Receiver() as receiver, pytest.raises(Unfit, match=f"can't listen on 127.0.0.1:{receiver.port}"):
        Receiver(port=receiver.port)


def test_ten_thousand_events_arrive_once_each() -> None:
    """10,000 events from four clients over kept connections all arrive, each client's in its order."""
    with receiving() as (receiver, found):

        def send(client: str) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=PATIENCE)
            for first in range(0, 2500, 50):
                batch = [event(client_id=client, seq=first + number) for number in range(50)]
                connection.request("POST", "/v1/events", json.dumps(batch))
                answer = connection.getresponse()
                assert (answer.status, answer.read()) == (202, b'{"accepted":50}\n')
            connection.close()

        clients = [threading.Thread(target=send, args=(f"vm{number}",)) for number in range(4)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
    for number in range(4):
        own = [each.seq for each in found if each.client_id == f"vm{number}"]
        assert own == list(range(2500))
