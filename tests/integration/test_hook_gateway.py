"""agentmon's hook and plugin in the real OpenClaw gateway, with a fake provider, a fake Telegram and our receiver."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections import Counter
from contextlib import contextmanager
from threading import Event as Flag
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from swarm.agentmon.receiver import Receiver
from swarm.deadline import Deadline
from tools.netns import Namespace
from tools.openclaw.gateway import SECRETS, Gateway, package
from tools.openclaw.provider import FAILS, TOOL
from tools.seaweed import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from swarm.agentmon.envelope import Event

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("ip"), reason="a network namespace needs root and ip"
    ),
    pytest.mark.skipif(not shutil.which("npm"), reason="npm, which installs OpenClaw, is missing"),
]

WORD = "kestrel-in-a-message"  # a content that must not leave the gateway
_WITHIN = 90.0  # seconds that a loaded machine may take for a reply


class Endpoint:
    """agentmon's endpoint: our own receiver, which checks each event as agentmon does."""

    def __init__(self) -> None:
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self.events: list[Event] = []
        self.problems: list[str] = []

    @contextmanager
    def up(self) -> Iterator[None]:
        """Listen during the block."""
        over = Flag()
        with Receiver(port=self.port) as receiver:

            def read() -> None:
                while not over.is_set():
                    with receiver.take(0.1) as delivery:
                        if delivery and delivery.problem:
                            self.problems.append(delivery.problem)
                        self.events.extend(delivery.events if delivery else [])

            reader = Thread(target=read)
            reader.start()
            try:
                yield
            finally:
                receiver.refuse()
                over.set()
                reader.join()

    def payloads(self, kind: str) -> list[dict[str, Any]]:
        """Return the payloads of all events of a type."""
        return [dict(each.payload) for each in self.events if each.type == kind]

    def names(self) -> Counter[tuple[str, Any]]:
        """Return how often each type and name has arrived."""
        return Counter((each.type, each.payload.get("name")) for each in self.events)


@pytest.fixture(scope="module")
def network() -> Iterator[None]:
    """Be in a network namespace that has only loopback: a gateway must not reach anything else."""
    package()  # installed before the registry is out of reach
    made = Namespace()
    with made.inside():
        yield
    made.close()


@pytest.fixture(scope="module")
def endpoint(network: None) -> Endpoint:  # noqa: ARG001 - its port is in the namespace
    """Give the endpoint, which does not listen yet."""
    return Endpoint()


@pytest.fixture(scope="module")
def gateway(endpoint: Endpoint, base: Path) -> Iterator[Gateway]:
    """Give a gateway with the hook, which does not run yet."""
    home = base / "gateway"
    home.mkdir()
    variables = {"AGENTMON_INGEST_URL": endpoint.url, "AGENTMON_VM_NAME": "lab"}
    made = Gateway(home, variables)
    yield made
    made.close()


def until(what: str, found: Callable[[], object], gateway: Gateway) -> None:
    """Wait until `found` returns something true. Fail with the gateway's log otherwise."""
    deadline = Deadline(_WITHIN)
    while not found():
        assert deadline.pause(0.2), f"{what} did not happen: {gateway.said()}"


def ask(gateway: Gateway, text: str) -> None:
    """Send a message, and wait for the reply."""
    before = len(gateway.telegram.sent)
    gateway.telegram.say(text)
    until(f"a reply to {text}", lambda: len(gateway.telegram.sent) > before, gateway)


def test_every_family_arrives(gateway: Gateway, endpoint: Endpoint) -> None:
    """Gateway, session, command, message, model, tool and run events arrive, each with its run, and each span ends."""
    with endpoint.up():
        gateway.start()
        ask(gateway, f"hello {WORD}")
        ask(gateway, f"{TOOL} please")
        ask(gateway, "/new")
        ask(gateway, "/reset")
        gateway.rpc("sessions.patch", key="agent:main:main", label="lab")
        gateway.rpc("chat.send", sessionKey="agent:main:main", message=f"hi {WORD}", idempotencyKey="k1")
        gateway.rpc("chat.send", sessionKey="agent:main:main", message=FAILS, idempotencyKey="k2")
        until("the end of all runs", lambda: _ended(endpoint) >= 6, gateway)
        gateway.stop()
    names = endpoint.names()
    assert endpoint.problems == []
    for expected in (
        *(
            ("metric.snapshot", name)
            for name in ("gateway.startup", "gateway.start", "gateway.shutdown", "session.patch")
        ),
        *(("session.start", "session"), ("session.end", "session"), ("run.start", "run"), ("run.end", "run")),
        *(
            ("span.start", "chat"),
            ("span.end", "chat"),
            ("span.start", "execute_tool"),
            ("span.end", "execute_tool"),
        ),
    ):
        assert names[expected] >= 1, (expected, names)
    runs = {each["run"] for each in endpoint.payloads("run.start")}
    started, ended = endpoint.payloads("span.start"), endpoint.payloads("span.end")
    assert {each["run"] for each in [*started, *ended]} <= runs
    assert Counter(each["span"] for each in started) == Counter(each["span"] for each in ended)
    assert max(Counter(each["span"] for each in ended).values()) == 1
    assert Counter(each["run"] for each in endpoint.payloads("run.end")) == Counter(runs)
    assert (
        _spooled(gateway) <= 1
    )  # what the gateway said last, after its final delivery, waits for the next start


def _ended(endpoint: Endpoint) -> int:
    return len(endpoint.payloads("run.end"))


def test_tokens_and_outcomes(endpoint: Endpoint) -> None:
    """Runs carry their tokens, a run with a tool those of both calls, and a run without any has none, not zero."""
    usages = [each.get("usage") for each in endpoint.payloads("run.end")]
    assert {"input_tokens": 22, "output_tokens": 14} in [_counts(each) for each in usages if each]
    assert None in usages
    outcomes = Counter(each.get("status") for each in endpoint.payloads("span.end"))
    assert outcomes["ok"] >= 3, outcomes
    assert outcomes["error"] >= 1, outcomes


def _counts(usage: dict[str, int]) -> dict[str, int]:
    return {name: usage[name] for name in ("input_tokens", "output_tokens")}


def test_nothing_leaks(endpoint: Endpoint) -> None:
    """Neither a message's text nor a key, a token or the session's key is in anything that was sent."""
    sent = json.dumps([each.data for each in endpoint.events])
    assert endpoint.events
    for secret in (WORD, TOOL, "agent:main:main", "tester", "tool-ran", "pong from", *SECRETS.values()):
        assert secret not in sent, secret


def test_killed_during_an_outage(gateway: Gateway, endpoint: Endpoint) -> None:
    """The endpoint is down, replies come all the same, the gateway is killed; later each event arrives exactly once."""
    endpoint.events.clear()
    gateway.start()
    ask(gateway, "/new")  # leaves the failed turn behind, which every later request would repeat
    ask(gateway, "one")
    ask(gateway, "two")
    until("the spool", lambda: _spooled(gateway) >= 6, gateway)
    kept = _spooled(gateway)
    gateway.stop(signal.SIGKILL)
    with endpoint.up():
        gateway.start()
        ask(gateway, "three")
        until("delivery", lambda: _ended(endpoint) >= 2 and not _spooled(gateway), gateway)
        gateway.stop()
    ids = [each.id for each in endpoint.events]
    assert len(ids) >= kept
    assert len(set(ids)) == len(ids)
    boots: dict[Any, list[int]] = {}
    for each in endpoint.events:
        boots.setdefault(each.payload.get("boot"), []).append(each.seq or 0)
    assert len(boots) >= 2
    for numbers in boots.values():
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _spooled(gateway: Gateway) -> int:
    """Return how many events wait in the spool."""
    return sum(path.read_bytes().count(b"\n") for path in gateway.spool)


def test_an_endpoint_that_hangs(gateway: Gateway, endpoint: Endpoint) -> None:
    """An endpoint that accepts and never answers delays neither the start nor a reply, and the gateway still ends."""
    with socket.create_server(("127.0.0.1", endpoint.port)):
        gateway.start()
        ask(gateway, "hello")
        gateway.rpc("sessions.patch", key="agent:main:main", label="alive")
        gateway.stop()
    assert gateway.spool
    assert "unhandled" not in gateway.said().lower()
