"""agentmon's hook in a real OpenClaw, as typed: part of install, proved by events of both halves, and left alone then.

The name of this file makes it use the machine of test_install.py after that.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from threading import Event as Flag
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from swarm.agentmon import deploy as deploying
from swarm.agentmon.captured import Captured
from swarm.agentmon.envelope import parse
from swarm.agentmon.hook import hook_files
from swarm.agentmon.receiver import Receiver
from swarm.errors import VerificationFailed
from swarm.guest.verify import Expected, verify
from swarm.inventory import load
from swarm.paths import ROOT
from swarm.ssh.forward import reverse
from tests.agentmon_events import event as sample
from tests.nspawn.at_the_prompt import Operator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.agentmon.envelope import Event
    from swarm.console import Talk
    from tests.conftest import Dirs
    from tests.nspawn.installed import Installed
    from tools.lab import Machine, World

pytestmark = pytest.mark.slow

TOKEN = "kestrel-4711"
MORE = """openclaw:
  nodejs_source: npm
  docker_source: distribution
agentmon:
  url: http://127.0.0.1:{port}
  token_env: HOOK_TEST_TOKEN
"""
TAP = "/run/user/$(id -u openclaw)/agentmon-receiver"


@pytest.fixture
def host(installed: Installed, request: pytest.FixtureRequest) -> Machine:
    """The machine on which everything is installed. Its kept connection stays open for the endpoint."""
    return installed.host(request.session.testsfailed)


@pytest.fixture
def typist(world: World, dirs: Dirs, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    """A user who has the endpoint's token in the environment."""
    monkeypatch.setenv("HOOK_TEST_TOKEN", TOKEN)
    made = Operator.make(world, dirs)
    yield made
    made.close()


@contextmanager
def serve(host: Machine) -> Iterator[tuple[int, list[Event]]]:
    """Run an endpoint that the guest reaches at a port of its own. Give the port, and the list of what arrives.

    Its connection would end two minutes after the last command over it, so it runs one every half a minute.
    """
    over, guest = Flag(), host.guest()
    arrived: list[Event] = []
    guest.check("true", "the first command")
    with Receiver(token=TOKEN) as receiver, reverse(guest.link, receiver.port) as port:

        def read() -> None:
            kept = time.monotonic()
            while not over.is_set():
                if time.monotonic() > kept + 30:
                    guest.check("true", "keeping the connection")
                    kept = time.monotonic()
                with receiver.take(0.2) as delivery:
                    arrived.extend(delivery.events if delivery else [])

        reader = Thread(target=read)
        reader.start()
        try:
            yield port, arrived
        finally:
            over.set()
            reader.join()
            guest.close()


class Endpoints:
    """Gives out one endpoint as long as no test fails, so that the hook, which knows its port, is deployed once."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._for: tuple[Machine, int] | None = None
        self._made: tuple[int, list[Event]]

    def of(self, host: Machine, failures: int) -> tuple[int, list[Event]]:
        """Return the port of a machine's endpoint, and the list, empty again, of what arrives."""
        if self._for != (host, failures):
            self._stack.close()
            self._made = self._stack.enter_context(serve(host))
            self._for = (host, failures)
        self._made[1].clear()
        return self._made


@pytest.fixture(scope="module")
def endpoints() -> Iterator[Endpoints]:
    """Endpoints that end with this module."""
    with ExitStack() as stack:
        yield Endpoints(stack)


@pytest.fixture
def endpoint(host: Machine, endpoints: Endpoints, request: pytest.FixtureRequest) -> tuple[int, list[Event]]:
    """An endpoint with a token: its port in the guest, and the list of what arrives."""
    return endpoints.of(host, request.session.testsfailed)


def describe(typist: Operator, host: Machine, port: int) -> None:
    """Write the host file demo with the section agentmon."""
    typist.add("demo", host)
    path = typist.dirs.hosts / "demo.yaml"
    path.write_text(path.read_text("utf-8") + MORE.format(port=port), encoding="utf-8")


def names(arrived: list[Event]) -> set[object]:
    """The names of the events that arrived."""
    return {event.payload.get("name") for event in arrived}


def test_the_hook_is_part_of_install(
    host: Machine, endpoint: tuple[int, list[Event]], typist: Operator, talk: Talk
) -> None:
    """`install` deploys and proves the hook; a second run, hook.deploy and verify find nothing to do or to blame."""
    port, arrived = endpoint
    describe(typist, host, port)
    planned = typist.inv("install", "--host", "demo", "--plan")
    assert planned.code == 0, planned.err
    assert "gateway with agentmon" in planned.err
    assert not arrived
    first = typist.inv("install", "--host", "demo")
    assert first.code == 0, first.err
    assert TOKEN not in first.err + first.out
    host.until("! ls /home/openclaw/.openclaw/agentmon/*.log", "the spool is empty")
    assert {"gateway.startup", "gateway.start"} <= names(arrived)
    for verb in ("install", "hook.deploy"):
        again = typist.inv(verb, "--host", "demo")
        assert (again.code, again.err) == (0, "nothing to do\n")
    assert host.ssh("stat -c '%a %U' /home/openclaw/.openclaw/.env").split() == ["600", "openclaw"]
    checks = verify(host.guest(), Expected(agentmon=True), talk).checks
    found = {check.text: check.result for check in checks if check.group == "agentmon"}
    assert len(found) == 4
    assert set(found.values()) == {"kept"}, checks


def test_nothing_is_left_to_do(host: Machine, typist: Operator) -> None:
    """Once everything is done, `plan --host all`, as the timer runs it, has exit code 0; after a change, it has 2."""
    typist.add("demo", host)
    machine = f"machine: {{address: {host.ip}, hostname: {host.ssh('hostname').strip()}}}\n"
    sources = "openclaw: {nodejs_source: npm, docker_source: distribution}\n"
    settings = "guest: {swappiness: 10, timezone: Europe/Berlin}\n"
    path = typist.dirs.hosts / "demo.yaml"
    path.write_text(f"hypervisor: {{uri: none}}\n{machine}{sources}{settings}", encoding="utf-8")
    for verb in ("provision", "install", "customize", "backup"):
        done = typist.inv(verb, "--host", "demo")
        assert done.code == 0, done.err
    planned = typist.inv("plan", "--host", "all")
    assert planned.code == 0, planned.out + planned.err
    path.write_text(path.read_text("utf-8").replace("swappiness: 10", "swappiness: 11"), encoding="utf-8")
    planned = typist.inv("plan", "--host", "all")
    assert (planned.code, "vm.swappiness" in planned.err + planned.out) == (2, True), planned.err


def test_hook_test_shows_what_arrives(
    host: Machine, endpoint: tuple[int, list[Event]], typist: Operator
) -> None:
    """`hook.test` shows events of both halves. They reach the endpoint afterwards, with those of a proof cut off."""
    port, arrived = endpoint
    describe(typist, host, port)
    assert typist.inv("hook.deploy", "--host", "demo").code == 0
    arrived.clear()
    [left] = parse(json.dumps(sample(payload={"name": "left.over"})).encode())
    Captured("demo").keep([left])
    shown = typist.inv("hook.test", "--host", "demo")
    assert shown.code == 0, shown.err
    assert "gateway.startup" in shown.out
    assert "gateway.start" in shown.out
    assert Captured("demo").size == 0
    host.until("! ls /home/openclaw/.openclaw/agentmon/*.log", "the spool is empty")
    assert {"gateway.startup", "gateway.start", "left.over"} <= names(arrived)


def test_ctrl_c_leaves_the_gateway_with_its_own_endpoint(
    host: Machine, endpoint: tuple[int, list[Event]], typist: Operator
) -> None:
    """Ctrl-C in the middle of a proof ends the redirection, and no event stays on this computer."""
    describe(typist, host, endpoint[0])
    words = [sys.executable, "-P", str(ROOT / "swarm" / "__main__.py"), "hook.test", "--host", "demo"]
    with subprocess.Popen(typist.world.inside(*words), cwd=ROOT, stderr=subprocess.PIPE) as running:
        host.until(f"test -e {TAP}", "events are led away")
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=300)
    assert running.returncode == 130, said
    assert b"Traceback" not in said
    assert host.ssh(f"test -e {TAP} || echo gone") == "gone\n"
    assert Captured("demo").size == 0


def test_an_endpoint_that_refuses_everything_is_noticed(
    host: Machine, endpoint: tuple[int, list[Event]], typist: Operator
) -> None:
    """A token that the endpoint does not know fails the deployment with a hint, and the proof stays due."""
    describe(typist, host, endpoint[0])
    path = typist.dirs.hosts / "demo.yaml"
    path.write_text(path.read_text("utf-8").replace("  token_env: HOOK_TEST_TOKEN\n", ""), encoding="utf-8")
    refused = typist.inv("hook.deploy", "--host", "demo")
    assert refused.code == 1, refused.err
    assert "the endpoint does not take the hook's events (HTTP 401)" in refused.err
    assert "agentmon.token_env" in refused.err
    planned = typist.inv("hook.deploy", "--host", "demo", "--plan")
    assert (planned.code, "gateway with agentmon" in planned.err) == (0, True), planned.err


def test_a_hook_that_does_not_load_is_noticed(
    host: Machine,
    endpoint: tuple[int, list[Event]],
    typist: Operator,
    talk: Talk,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the gateway can't load handler.ts, no event of the hook arrives, and the deployment fails."""
    describe(typist, host, endpoint[0])
    broken = {**hook_files(), "handler.ts": "export default function ("}
    monkeypatch.setattr(deploying, "hook_files", lambda: broken)
    with pytest.raises(VerificationFailed, match="no event of the hook arrived"):
        deploying.deploy(host.guest(), load("demo"), talk, silence=25)
