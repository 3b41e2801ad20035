"""agentmon's hook and plugin in the real OpenClaw gateway, with a fake provider, a fake Telegram and our receiver."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from swarm.deadline import Deadline
from tools.lab.process import LabError
from tools.netns import Namespace
from tools.openclaw.endpoint import Endpoint
from tools.openclaw.gateway import IDLE, SECRETS, Gateway, package
from tools.openclaw.provider import FAILS, SPAWN, TOOL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("ip"), reason="a network namespace needs root and ip"
    ),
    pytest.mark.skipif(not shutil.which("npm"), reason="npm, which installs OpenClaw, is missing"),
]

MAIN, OTHER = "agent:main:main", "agent:main:other"  # session keys
WORD = "kestrel-in-a-message"  # a content that must not leave the gateway unless that is asked for
PLANTED = "sk-planted-in-a-message"  # a secret, which must not leave it in any case
_FIRST = 7  # runs before the compaction: four messages, a subagent and its announcement, a job
_RUNS = 10  # at least, in the first test: messages, a subagent and its announcement, a compaction, a job


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


@pytest.fixture(scope="module")
def idle() -> dict[str, Deadline]:
    """Give a place to note until when a session must be left alone so that OpenClaw resets it by itself."""
    return {}


# What the events of OpenClaw become, by the rows of lib/mapping.ts. command:stop is missing: OpenClaw 2026.9.6 emits it
# only in its handler of the command /stop, and every path to that has a quicker one before it. A message of a chat
# channel is first tested for a request to abort (tryFastAbortFromMessage in dispatch-from-config, by the same rule),
# which ends the dispatch, unless the sender is not authorized, which the handler requires, too. chat.send turns /stop
# into an abort before it dispatches anything.
SEEN: dict[str, set[str]] = {
    "session.start": {"session"},
    "session.end": {"reset", "session"},
    "run.start": {"run"},
    "run.end": {"run"},
    "span.start": {"chat", "execute_tool", "invoke_agent", "compaction"},
    "span.end": {"chat", "execute_tool", "invoke_agent", "compaction"},
    "error": {"chat"},
    "metric.snapshot": {
        *("gateway.startup", "gateway.start", "agent.bootstrap", "usage"),
        *("session.patch", "session.reset", "cron", "cron.reconciled", "agentmon"),
    },
}
LAST = {"gateway.shutdown", "gateway.stop"}  # snapshots of a gateway that ends in good order


def test_every_family_arrives(gateway: Gateway, endpoint: Endpoint, idle: dict[str, Deadline]) -> None:
    """Events of all families arrive, each with its run, and each span ends. The gateway runs on."""
    with endpoint.up():
        gateway.start()
        # One after the other: a gateway that has only just started may fail two messages that come at once.
        _turn(gateway, endpoint, f"hello {WORD}")
        gateway.rpc("chat.send", sessionKey=OTHER, message="hi", idempotencyKey="k0")
        gateway.until("the end of both runs", lambda: _ended(endpoint) >= 2 and not _open(endpoint))
        idle[OTHER] = Deadline(IDLE + 2.0)
        _turn(gateway, endpoint, f"{TOOL} please")
        _turn(gateway, endpoint, f"{SPAWN} please")
        _run_job(gateway)
        gateway.until("the first runs", lambda: _ended(endpoint) >= _FIRST and not _open(endpoint))
        gateway.until("a compaction", lambda: _compacted(gateway))
        _turn(gateway, endpoint, "/new")
        _reset(gateway, endpoint)
        gateway.rpc("sessions.reset", key=MAIN)
        gateway.rpc("sessions.patch", key=MAIN, label="lab")
        gateway.rpc("chat.send", sessionKey=MAIN, message=f"hi {WORD}", idempotencyKey="k1")
        gateway.rpc("chat.send", sessionKey=MAIN, message=FAILS, idempotencyKey="k2")
        gateway.until("the failed call", lambda: ("error", "chat") in endpoint.names())  # the last message's
        gateway.until("the end of all runs", lambda: _ended(endpoint) >= _RUNS and not _open(endpoint))
        gateway.until("the end of all spans", lambda: not _unended(endpoint))
        # The hook tells of itself each minute, which is longer than all this takes on a fast computer.
        gateway.until("its own metrics", lambda: ("metric.snapshot", "agentmon") in endpoint.names())
        gateway.until("delivery", lambda: not _spooled(gateway))
    assert endpoint.problems == []
    names = endpoint.names()
    missing = {(kind, name) for kind, all_ in SEEN.items() for name in all_} - set(names)
    assert not missing, names
    runs = {each["run"] for each in endpoint.payloads("run.start")}
    started, ended = endpoint.payloads("span.start"), endpoint.payloads("span.end")
    assert {each["run"] for each in [*started, *ended]} <= runs
    assert max(Counter(each["span"] for each in ended).values()) == 1
    assert Counter(each["run"] for each in endpoint.payloads("run.end")) == Counter(runs)


def _turn(gateway: Gateway, endpoint: Endpoint, text: str) -> None:
    """Send a message, and wait for the reply and for the end of all runs: OpenClaw adds a message to an open run."""
    before = _ended(endpoint)
    gateway.ask(text)
    deadline = Deadline(5.0)
    while _ended(endpoint) == before and deadline.pause(0.2):
        pass  # the reply may come before the events
    gateway.until("the end of the run", lambda: not _open(endpoint))


def _reset(gateway: Gateway, endpoint: Endpoint) -> None:
    """Send /reset until it is one: while /new still greets, OpenClaw adds the message to that run."""
    for _ in range(6):
        _turn(gateway, endpoint, "/reset")
        deadline = Deadline(5.0)
        while deadline.pause(0.2):
            if ("session.end", "reset") in endpoint.names():
                return


def _compacted(gateway: Gateway) -> bool:
    """Compact the session, unless its last run, whose end we know of, is still active for the gateway."""
    try:
        gateway.rpc("sessions.compact", key=MAIN)
    except LabError as error:
        if "has an active run" not in str(error):
            raise
        return False
    return True


def _run_job(gateway: Gateway) -> None:
    """Let a cron job run once. It is due tomorrow, so that a slow machine does not miss it."""
    at = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    payload = {"kind": "agentTurn", "message": f"the job {WORD}"}
    job = gateway.rpc(
        "cron.add", name="once", schedule={"kind": "at", "at": at}, sessionTarget="isolated", wakeMode="now",
        payload=payload, delivery={"mode": "none"}, deleteAfterRun=True,
    )  # fmt: skip
    gateway.rpc("cron.run", id=job["id"], mode="force")


def _open(endpoint: Endpoint) -> set[str]:
    """Return the runs that have not ended."""
    ended = {each["run"] for each in endpoint.payloads("run.end")}
    return {each["run"] for each in endpoint.payloads("run.start")} - ended


def _unended(endpoint: Endpoint) -> Counter[str]:
    """Return the spans that started more often than they ended, or the other way round."""
    started, ended = (
        Counter(each["span"] for each in endpoint.payloads(f"span.{kind}")) for kind in ("start", "end")
    )
    return (started - ended) + (ended - started)


def test_a_subagent_is_in_the_trace(endpoint: Endpoint) -> None:
    """A subagent's run has the trace and the span of the run that started it, and how it ended is known."""
    [span] = [each for each in endpoint.payloads("span.start") if each["name"] == "invoke_agent"]
    [child] = [each for each in endpoint.payloads("run.start") if each.get("parent")]
    assert (child["trace"], child["parent"]) == (span["trace"], span["span"])
    assert child["run"] != span["run"]
    ends = [*endpoint.payloads("span.end"), *endpoint.payloads("metric.snapshot")]
    assert "ok" in {each.get("status") for each in ends if each["name"] == "invoke_agent"}


def test_a_compaction_and_a_job(endpoint: Endpoint) -> None:
    """A compaction ends well, and a cron job is added, starts and finishes."""
    [compaction] = [each for each in endpoint.payloads("span.end") if each["name"] == "compaction"]
    assert compaction["status"] == "ok"
    assert compaction["attributes"]["openclaw.compaction.compacted"] > 0
    jobs = [each["attributes"] for each in endpoint.payloads("metric.snapshot") if each["name"] == "cron"]
    ours = [each for each in jobs if each["openclaw.cron.action"] == "finished"]
    assert len(ours) == 1, jobs
    actions = [
        each["openclaw.cron.action"]
        for each in jobs
        if each["openclaw.cron.job"] == ours[0]["openclaw.cron.job"]
    ]
    assert actions[0] == "added"
    assert "started" in actions


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
    words = (WORD, TOOL, SPAWN, MAIN, OTHER, "tester", "tool-ran", "pong from", "report back")
    for secret in (*words, *SECRETS.values()):
        assert secret not in sent, secret


def test_killed_during_an_outage(gateway: Gateway, endpoint: Endpoint, idle: dict[str, Deadline]) -> None:
    """The endpoint is down, replies come all the same, the gateway is killed; later each event arrives exactly once."""
    endpoint.events.clear()
    gateway.ask("/new")  # leaves the failed turn behind, which every later request would repeat
    gateway.ask("one")
    gateway.ask("two")
    gateway.until("the spool", lambda: _spooled(gateway) >= 6)
    kept = _spooled(gateway)
    gateway.stop(signal.SIGKILL)
    with endpoint.up():
        gateway.start()
        gateway.ask("three")
        idle[OTHER].pause(IDLE)
        gateway.rpc("chat.send", sessionKey=OTHER, message="after a while", idempotencyKey="k3")
        gateway.until("an auto-reset", lambda: ("session.end", "auto-reset") in endpoint.names())
        gateway.until("delivery", lambda: _ended(endpoint) >= 2 and not _spooled(gateway))
        gateway.stop()
    # What the gateway said last, after its final delivery, waits for the next start.
    assert _spooled(gateway) <= 1
    assert {each.payload["name"] for each in endpoint.events} >= LAST
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
        gateway.ask("hello")
        gateway.rpc("sessions.patch", key="agent:main:main", label="alive")
        gateway.stop()
    assert gateway.spool
    assert "unhandled" not in gateway.said().lower()


def test_content_if_asked_for(gateway: Gateway, endpoint: Endpoint) -> None:
    """With AGENTMON_CONTENT=1 texts and results arrive, but no secret, not even one in a message."""
    endpoint.events.clear()
    gateway.set_variables({"AGENTMON_INGEST_URL": endpoint.url, "AGENTMON_CONTENT": "1"})
    (gateway.state / "hooks/agentmon/handler.ts").write_text("export default function (", encoding="utf-8")
    with endpoint.up():
        gateway.start()
        gateway.ask(f"{TOOL} {WORD} {PLANTED}")
        gateway.rpc("sessions.patch", key=MAIN, label="content")
        tool = ("span.end", "execute_tool")
        gateway.until("the end of its run", lambda: tool in endpoint.names() and not _open(endpoint))
        gateway.stop()
    sent = json.dumps([each.data for each in endpoint.events])
    for word in (WORD, "tool-ran", "pong from"):
        assert word in sent, word
    for secret in (PLANTED, MAIN, *SECRETS.values()):
        assert secret not in sent, secret


def test_a_half_that_does_not_load(endpoint: Endpoint) -> None:
    """Without a handler that loads, as in the last test, what only the hook reports is absent, and the rest arrives."""
    boot = endpoint.events[-1].payload["boot"]  # earlier events are those that waited for the endpoint
    names = {each.payload["name"] for each in endpoint.events if each.payload["boot"] == boot}
    assert {"gateway.start", "gateway.stop", "chat", "execute_tool", "run"} <= names
    assert not {"gateway.startup", "gateway.shutdown", "session.patch", "agent.bootstrap"} & names
