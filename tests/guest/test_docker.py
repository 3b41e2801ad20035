"""Docker, with compose and buildx."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from swarm.guest.verify import Expected
    from tests.guest.conftest import Guest


def test_docker_runs_a_container(guest: Guest) -> None:
    """Docker runs a container."""
    # The image is made from the guest's own echo, so nothing is downloaded.
    files = "/bin/echo $(ldd /bin/echo | grep -o '/[^ ]*')"
    try:
        guest.out(f"tar -chf - {files} 2>/dev/null | docker import - swarm-verify")
        assert guest.out("docker run --rm --network none swarm-verify /bin/echo hello") == "hello"
    finally:
        guest.ask("docker image rm -f swarm-verify")


def test_docker_for_the_user(guest: Guest) -> None:
    """The OpenClaw user can use Docker."""
    assert guest.as_user("docker version --format '{{.Server.Version}}'")


def test_compose(guest: Guest) -> None:
    """Docker Compose is installed."""
    assert guest.out("docker compose version --short 2>/dev/null || docker-compose version --short")


def test_buildx(guest: Guest, expected: Expected) -> None:
    """Docker buildx is installed."""
    if not expected.buildx:
        pytest.skip("the source of Docker may have no buildx (Debian 12 has none)")
    assert guest.out("docker buildx version")
