"""What runs: Docker, Node, OpenClaw, its gateway, Tailscale."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from swarm.guest.verify import Expected
    from tests.guest.conftest import Guest


def test_docker_runs_a_container(guest: Guest) -> None:
    """Docker runs a container; its image is made from the guest's own echo, so nothing is fetched."""
    files = "/bin/echo $(ldd /bin/echo | grep -o '/[^ ]*')"
    try:
        guest.out(f"tar -chf - {files} 2>/dev/null | docker import - swarm-verify")
        assert guest.out("docker run --rm --network none swarm-verify /bin/echo hello") == "hello"
    finally:
        guest.host.run("docker image rm -f swarm-verify")


def test_docker_for_the_user(guest: Guest) -> None:
    """The OpenClaw user may use Docker."""
    assert guest.as_user("docker version --format '{{.Server.Version}}'")


def test_compose(guest: Guest) -> None:
    """Docker Compose is there."""
    assert guest.out("docker compose version --short 2>/dev/null || docker-compose version --short")


def test_buildx(guest: Guest, expected: Expected) -> None:
    """Docker's buildx is there."""
    if not expected.buildx:
        pytest.skip("the chosen source of Docker may have none (Debian 12 does not)")
    assert guest.out("docker buildx version")


def test_node(guest: Guest) -> None:
    """Node has a version that OpenClaw accepts: 24 from 24.16 on, or 26.1 and later."""
    version = tuple(int(number) for number in re.findall(r"\d+", guest.as_user("node --version")))
    assert (24, 16) <= version < (25,) or version >= (26, 1), f"Node {version}"


def test_pnpm(guest: Guest) -> None:
    """The OpenClaw user has pnpm."""
    assert guest.as_user("pnpm --version")


def test_openclaw_version(guest: Guest, expected: Expected) -> None:
    """OpenClaw starts, and has the version that was asked for or recorded."""
    shown = guest.as_user("openclaw --version")
    wanted = (
        expected.openclaw_version
        or guest.host.run("sed -n 's/^version //p' /var/lib/swarm/openclaw-release").stdout.strip()
    )
    assert wanted in shown if wanted else re.search(r"\d+\.\d+", shown)


def test_state_folder(guest: Guest) -> None:
    """Only the OpenClaw user can enter the folder with its secrets."""
    assert (
        guest.out(f"stat -c '%a %U' $(getent passwd {guest.user} | cut -d: -f6)/.openclaw")
        == f"700 {guest.user}"
    )


def test_gateway_unit(guest: Guest) -> None:
    """The gateway is a user unit that starts at boot and runs now."""
    assert guest.as_user("systemctl --user is-enabled openclaw-gateway.service") == "enabled"
    assert guest.as_user("systemctl --user is-active openclaw-gateway.service") == "active"


def test_gateway_is_ready(guest: Guest, expected: Expected) -> None:
    """The gateway says that it is ready."""
    answer = json.loads(guest.out(f"curl -fsS -m 20 http://127.0.0.1:{expected.port}/readyz"))
    assert answer["ready"] is True


def test_tailscale(guest: Guest, expected: Expected) -> None:
    """The guest has joined its Tailscale network."""
    if not expected.tailscale:
        pytest.skip("the host file does not enable Tailscale")
    assert json.loads(guest.out("tailscale status --json"))["BackendState"] == "Running"
