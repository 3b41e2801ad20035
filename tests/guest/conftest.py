"""What `inv verify` runs on a guest, over the pinned SSH configuration: one test for each promise.

    pytest tests/guest --hosts=ssh://ALIAS --ssh-config=CONFIG --expect=FILE

FILE is JSON with the fields of `Expected`. A test that needs a field that FILE leaves out is skipped.
"""

from __future__ import annotations

import json
import re
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from swarm.guest import bounded
from swarm.guest.answer import Answer, cut, new_mark, wrap
from swarm.guest.suite import MEMORY, TOO_LARGE
from swarm.guest.verify import Expected

if TYPE_CHECKING:
    from collections.abc import Callable

    from testinfra.backend.base import CommandResult
    from testinfra.host import Host

_LONGEST = 100  # characters of a found or expected value that a message shows


def pytest_configure(config: pytest.Config) -> None:
    """Limit the memory of this process, in case that an answer takes more of it than expected."""
    if config.getoption("--expect"):
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Say what was found and what was expected, so that it makes sense beside a promise."""
    if op == "==":
        return [f"found {_shown(left)}, expected {_shown(right)}"]
    if op == "in":
        return [f"expected {_shown(left)}, found {_shown(right)}"]
    return None


def _shown(value: object) -> str:
    parts = [str(value)]
    if isinstance(value, (set, list)):
        parts = sorted(map(str, value)) if isinstance(value, set) else list(map(str, value))
    text = ", ".join(part.strip() for part in parts if part.strip())
    return (f"{text[:_LONGEST]} …" if len(text) > _LONGEST else text) or "nothing"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --expect."""
    parser.addoption("--expect", default=None, help="a JSON file with what the host file promises")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what a host file promises nothing about: agentmon without events, and a network without a filter."""
    expected = _expected(config)
    absent = {"test_agentmon": not expected.agentmon, "test_network": not expected.filtered}
    items[:] = [item for item in items if not absent.get(item.path.stem)]


@pytest.fixture(scope="session")
def expected(request: pytest.FixtureRequest) -> Expected:
    """What the host file promises."""
    return _expected(request.config)


def _expected(config: pytest.Config) -> Expected:
    path = config.getoption("--expect")
    return Expected(**json.loads(Path(path).read_text(encoding="utf-8"))) if path else Expected()


@pytest.fixture(autouse=True)
def promise(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    """Put the sentence that a test checks into the report."""
    record_property("promise", (request.function.__doc__ or request.node.name).strip())


class Guest:
    """The host under test, with what several tests need."""

    def __init__(self, host: Host, user: str) -> None:
        self.host, self.user = host, user
        host.backend.run_local = self._run_local

    def _run_local(self, command: str, *args: str) -> CommandResult:
        """Do what testinfra's own run_local does, which would keep any amount of output."""
        backend = self.host.backend
        line = backend.encode(backend.quote(command, *args))
        done = bounded.run(line)
        return backend.result(done.code, line, done.out, done.err)

    def ask(self, command: str, *, login: str | None = None) -> Answer:
        """Run shell as root, or as in a login of the user `login`, and return what it printed and its exit code."""
        mark = new_mark()
        done = self._run(wrap(command, mark, login=login))
        if done is None:
            pytest.exit("the guest's answer is too large", returncode=TOO_LARGE)
        answer = cut(done.stdout_bytes, done.stderr_bytes, mark)
        return answer or Answer(done.rc or 1, "", _last(done.stderr_bytes))

    def _run(self, command: str) -> CommandResult | None:
        """Run a command by testinfra. Return None if its output is too long."""
        try:
            return self.host.run(command)
        except RuntimeError as error:  # testinfra's, when ssh itself fails
            raise AssertionError(f"ssh failed: {_last(error.args[0].stderr_bytes)}") from None
        except (bounded.TooLong, MemoryError):
            return None

    def out(self, command: str, *, login: str | None = None) -> str:
        """Run shell as ask() does and return what it prints. Fail with its last error if it fails."""
        answer = self.ask(command, login=login)
        found = (answer.errors or answer.text or f"exit code {answer.code}").splitlines()[-1][:_LONGEST]
        assert answer.code == 0, (
            f"{re.sub(r'^(ba)?sh: (line )?[0-9]+: (eval: )?', '', found)} (asked by: {command})"
        )
        return answer.text

    def as_user(self, command: str) -> str:
        """Run shell as in a login of the OpenClaw user and return what it prints. Fail if it fails."""
        return self.out(command, login=self.user)


def _last(text: bytes) -> str:
    """The last line of an error, cut to a readable length."""
    return (text[-4096:].decode("utf-8", "replace").strip().splitlines() or ["no reason given"])[-1][
        :_LONGEST
    ]


@pytest.fixture
def guest(host: Any, expected: Expected) -> Guest:  # noqa: ANN401 - testinfra ships no types
    """The guest under test."""
    return Guest(host, expected.user)
