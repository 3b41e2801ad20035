"""What `inv verify` runs on a guest, over the pinned SSH configuration: one test for each promise.

    pytest tests/guest --hosts=ssh://ALIAS --ssh-config=CONFIG --expect=FILE

FILE is JSON with the fields of `Expected`; what it leaves out is not known, and a test that needs it is skipped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from swarm.guest.verify import Expected

if TYPE_CHECKING:
    from collections.abc import Callable

    from testinfra.host import Host


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
        assert done.rc == 0, f"{command}: {(done.stderr or done.stdout).strip()[-300:]}"
        return str(done.stdout).strip()

    def as_user(self, command: str) -> str:
        """Run shell as the OpenClaw user, as in a login."""
        return self.out(f"runuser -l {self.user} -c {_quote(command)}")


def _quote(text: str) -> str:
    from swarm.remote import quote

    return quote(text)


@pytest.fixture
def guest(host: Any, expected: Expected) -> Guest:  # noqa: ANN401 - testinfra ships no types
    """The guest under test."""
    return Guest(host, expected.user)
