"""What becomes of the events that a proof has captured, and what the endpoint's answer means."""

from __future__ import annotations

import errno
import json
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from threading import Event
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from swarm.agentmon.captured import Captured, alone
from swarm.agentmon.deploy import deploy, prove
from swarm.agentmon.endpoint import judge
from swarm.agentmon.envelope import parse
from swarm.agentmon.hook import SUBJECT
from swarm.agentmon.receiver import PATH
from swarm.console import Screen, Talk
from swarm.errors import CommandFailed
from swarm.inventory import load
from swarm.plan import Change, Plan
from tests import samples
from tests.agentmon_events import event
from tests.unit.steps import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from swarm.console import Meter
    from swarm.guest.engine.step import Step
    from swarm.inventory import Host
    from swarm.ssh.guest import Guest
    from tests.conftest import Dirs


class Ear:
    """Stands at the end of a guest's connection and keeps the scripts that it is sent."""

    alias = "zap"

    def __init__(self, *, fails: bool = False) -> None:
        self.scripts: list[str] = []
        self.fails, self.asked = fails, 0

    def script(self, text: str, *_: object) -> str:
        """Take a script that is answered piece by piece."""
        return self.check(text, "a script")

    def run(self, *_: object, **__: object) -> SimpleNamespace:
        """Say that the hook is there."""
        return SimpleNamespace(ok=True)

    def check(self, script: str, what: str, **_: Any) -> str:
        """Take a script."""
        self.asked += 1
        if self.fails:
            raise CommandFailed(f"zap: {what} failed")
        self.scripts.append(script)
        return ""


def load_with_agentmon() -> Host:
    """Return the host zap with agentmon."""
    with samples.write().open("a", encoding="utf-8") as file:
        file.write("agentmon: {url: http://192.168.122.1:8080}\n")
    return load("zap")


def kept(*payloads: str) -> Captured:
    """Return a file with one event for each payload's name."""
    captured = Captured("zap")
    for name in payloads:
        captured.keep(parse(json.dumps(event(payload={"name": name})).encode()))
    return captured


def test_events_are_kept_in_a_private_file(dirs: Dirs) -> None:
    """Events are appended to a file that only its owner can read, and are read back in order."""
    captured = kept("a", "it's ü")
    path = dirs.state / "agentmon" / "zap.ndjson"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert captured.size == path.stat().st_size > 0
    assert [each.payload["name"] for each in captured.events()] == ["a", "it's ü"]


def test_a_torn_line_is_left_out(dirs: Dirs) -> None:
    """A line that a crash has torn is ignored: its sender got no answer, and still has the event."""
    captured = kept("a", "b")
    path = dirs.state / "agentmon" / "zap.ndjson"
    path.write_bytes(path.read_bytes()[:-20])
    assert [each.payload["name"] for each in captured.events()] == ["a"]


@pytest.mark.usefixtures("dirs")
def test_events_go_back_as_a_segment_of_the_spool() -> None:
    """The segment has the hook's own format: a checksum, a space and the event on each line. Then the file is gone."""
    captured, guest = kept("it's mine"), Ear()
    [before] = captured.events()
    captured.put_back(guest, settings())  # type: ignore[arg-type] # only check() is called
    assert captured.size == 0
    [script] = guest.scripts
    text = json.dumps(before.data, separators=(",", ":"))
    assert f"{zlib.crc32(text.encode()):08x} " in script
    assert "/home/openclaw/.openclaw/agentmon/001789899072345-000000.0.0.log" in script
    assert " 600 openclaw openclaw" in script


@pytest.mark.usefixtures("dirs")
def test_a_failed_return_keeps_the_events() -> None:
    """If the guest can't take them, the events stay here for the next run."""
    captured = kept("a")
    with pytest.raises(CommandFailed):
        captured.put_back(Ear(fails=True), settings())  # type: ignore[arg-type] # as above
    assert len(captured.events()) == 1


class Waiting(Talk):
    """Notes that somebody has to wait."""

    def __init__(self) -> None:
        super().__init__(Screen())
        self.noted = Event()

    @contextmanager
    def step(self, text: str, *, silent: bool = False) -> Iterator[Meter]:
        """Show a step as Talk does."""
        assert "waiting for another run" in text
        self.noted.set()
        with super().step(text, silent=silent) as meter:
            yield meter


@pytest.mark.usefixtures("dirs")
def test_two_proofs_of_a_host_take_turns() -> None:
    """The second waits until the first has put its events back. A proof of another host does not wait."""
    order, talk, guest = list[str](), Waiting(), Ear()

    def prove(host: str) -> None:
        with alone(host, talk):
            order.append(f"{host} begins with {Captured(host).size}")

    with ThreadPoolExecutor(1) as pool:
        with alone("zap", talk):
            captured = kept("a")
            prove("bee")
            assert not talk.noted.is_set()
            second = pool.submit(prove, "zap")
            assert talk.noted.wait(60)
            captured.put_back(guest, settings())  # type: ignore[arg-type] # as above
            order.append("the first ends")
        second.result()
    assert order == ["bee begins with 0", "the first ends", "zap begins with 0"]


@pytest.mark.parametrize("verb", [deploy, prove])
@pytest.mark.usefixtures("dirs")
def test_deploy_and_test_wait_for_each_other(verb: Callable[[Guest, Host, Talk], object]) -> None:
    """Neither `hook.deploy` nor `hook.test` reaches for the guest's gateway while another run of them works there."""
    talk, guest = Waiting(), Ear(fails=True)
    host = load_with_agentmon()
    with ThreadPoolExecutor(1) as pool:
        with alone("zap", talk):
            running = pool.submit(verb, guest, host, talk)  # type: ignore[arg-type] # only run() and check() are called
            assert talk.noted.wait(60)
            assert guest.asked == 0
        with pytest.raises(CommandFailed):
            running.result()
    assert guest.asked == 1


def restarting(
    monkeypatch: pytest.MonkeyPatch, talk: Callable[[HTTPConnection], None]
) -> tuple[Ear, list[str]]:
    """Return a guest whose gateway talks to the receiver when it restarts, and the list of the steps that are done."""
    ports, done = list[int](), list[str]()

    @contextmanager
    def reverse(_link: object, port: int) -> Iterator[int]:
        ports.append(port)
        yield port

    def converge(_guest: Guest, todo: list[Step], _talk: Talk) -> Plan:
        done.append(todo[-1].subject)
        if todo[-1].subject != SUBJECT:
            return Plan("zap")
        connection = HTTPConnection("127.0.0.1", ports[0])
        talk(connection)
        connection.close()
        return Plan("zap", (Change("update", SUBJECT),))

    guest = Ear()
    monkeypatch.setattr(guest, "check", lambda *_, **__: "1789899072.5")
    monkeypatch.setattr(guest, "link", None, raising=False)
    monkeypatch.setattr("swarm.agentmon.deploy.reverse", reverse)
    monkeypatch.setattr("swarm.agentmon.deploy.converge", converge)
    return guest, done


def posted(connection: HTTPConnection, body: object) -> int:
    """Send a body. Return the status of the answer."""
    connection.request("POST", PATH, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


@pytest.mark.usefixtures("dirs")
def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that can't be kept on this computer are told so to their sender and to the person, by the reason."""
    answers = list[int]()

    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    guest, done = restarting(monkeypatch, lambda connection: answers.append(posted(connection, event())))
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CommandFailed, match=r"zap: .* could not be kept on this computer: No space left"):
        prove(guest, load_with_agentmon(), Talk(Screen()))  # type: ignore[arg-type] # as above
    assert (answers, done) == ([503], [SUBJECT, "gateway with its own endpoint"])


@pytest.mark.usefixtures("dirs")
def test_a_flood_of_refused_requests_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the requests that a guest sends and that are refused, the first hundred are reported. The proof goes on."""

    def talk(connection: HTTPConnection) -> None:
        assert {posted(connection, {"number": number}) for number in range(400)} == {400}
        for name in ("gateway.startup", "gateway.start"):
            assert posted(connection, event(ts=1789899073000, payload={"name": name})) == 202

    guest, _ = restarting(monkeypatch, talk)
    monkeypatch.setattr("swarm.agentmon.deploy.rejection", lambda *_: None)
    report = prove(guest, load_with_agentmon(), Talk(Screen()))  # type: ignore[arg-type] # as above
    assert report.exit_code == 0
    assert len(report.seen.refused) == 100


@pytest.mark.parametrize(
    ("verdict", "answer", "wanted", "hint"),
    [
        ("misconfigured", "HTTP 401", "does not take the hook's events (HTTP 401)", "agentmon.token_env"),
        ("refused", "HTTP 400", "does not take the hook's events (HTTP 400)", "agentmon.batch"),
        ("too large", "HTTP 413", "does not take the hook's events (HTTP 413)", "agentmon.batch"),
    ],
)
def test_a_refusing_endpoint_is_an_error(verdict: str, answer: str, wanted: str, hint: str) -> None:
    """An endpoint that will never take the events is an error that says what to check."""
    found = judge("zap", verdict, answer, Talk(Screen()))
    assert found
    assert wanted in found.message
    assert hint in (found.hint or "")


def test_an_endpoint_that_is_down_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """An endpoint that does not answer now is only a warning: events wait. One that accepts is no news."""
    talk = Talk(Screen())
    assert judge("zap", "delivered", "HTTP 202", talk) is None
    assert capsys.readouterr().err == ""
    assert judge("zap", "retry", "ECONNREFUSED", talk) is None
    assert "ECONNREFUSED" in capsys.readouterr().err
