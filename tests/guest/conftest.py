"""What `inv verify` runs on a guest, over the pinned SSH configuration: one test for each promise.

    pytest tests/guest --hosts=ssh://ALIAS --ssh-config=CONFIG --expect=FILE

FILE is JSON with the fields of `Expected`; what it leaves out is not known, and a test that needs it is skipped.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from swarm.guest.verify import Expected

if TYPE_CHECKING:
    from collections.abc import Callable

    from testinfra.host import Host

_LONGEST = 100  # characters of what was found that still fit into a table


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Say what was found and what should be, in words that make sense beside a promise."""
    if op == "==":
        return [f"found {_words(left)}, expected {_words(right)}"]
    if op == "in":
        return [f"expected {_words(left)}, found {_words(right)}"]
    return None


def _words(value: object) -> str:
    parts = (
        sorted(map(str, value))
        if isinstance(value, set)
        else list(map(str, value))
        if isinstance(value, list)
        else [str(value)]
    )
    text = ", ".join(part.strip() for part in parts if part.strip())
    return (f"{text[:_LONGEST]} …" if len(text) > _LONGEST else text) or "nothing"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --expect."""
    parser.addoption("--expect", default=None, help="a JSON file that says what the host file promises")


@pytest.fixture(scope="session")
def expected(request: pytest.FixtureRequest) -> Expected:
    """What the host file says."""
    path = request.config.getoption("--expect")
    return Expected(**json.loads(Path(path).read_text(encoding="utf-8"))) if path else Expected()


@pytest.fixture(autouse=True)
def promise(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    """Put the sentence that a test proves into the report."""
    record_property("promise", (request.function.__doc__ or request.node.name).strip())


class Guest:
    """The host, with what several tests do."""

    def __init__(self, host: Host, user: str) -> None:
        self.host, self.user = host, user

    def out(self, command: str) -> str:
        """Run shell as root and return what it prints; fail with its own words if it fails."""
        done = self.host.run(command)
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.rc}").splitlines()[-1]
        assert done.rc == 0, f"{re.sub(r'^(ba)?sh: (line )?[0-9]+: ', '', said)} (asked by: {command})"
        return str(done.stdout).strip()

    def as_user(self, command: str) -> str:
        """Run shell as the OpenClaw user, as in a login."""
        return self.out(f"runuser -l {self.user} -c {_quote(command)}")


def _quote(text: str) -> str:
    from swarm.text import quote

    return quote(text)


@pytest.fixture
def guest(host: Any, expected: Expected) -> Guest:  # noqa: ANN401 - testinfra ships no types
    """The guest under test."""
    return Guest(host, expected.user)
