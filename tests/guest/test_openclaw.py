"""OpenClaw: Node, pnpm, the program, its user's systemd, and the gateway."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from swarm.inventory.node import runs_openclaw

if TYPE_CHECKING:
    from swarm.guest.verify import Expected
    from tests.guest.conftest import Guest

# What `systemd-analyze security` says: 9.8 for the unit as OpenClaw writes it, and 7.9 with swarm's drop-in. It counts
# as if the gateway were root's.
_EXPOSURE = 8.3


def test_node(guest: Guest) -> None:
    """Node is 24.16 or a later 24, or 26.1 or later, as OpenClaw needs."""
    found = guest.as_user("node --version")
    assert runs_openclaw(found), f"found Node {found}"


def test_pnpm(guest: Guest) -> None:
    """The OpenClaw user has pnpm."""
    assert guest.as_user("pnpm --version")


def test_openclaw_version(guest: Guest, expected: Expected) -> None:
    """OpenClaw starts, in the version that is pinned or recorded."""
    found = guest.as_user("openclaw --version")
    recorded = "sed -n 's/^version //p' /var/lib/swarm/openclaw-release"
    wanted = expected.openclaw_version or guest.ask(recorded).text
    assert wanted in found if wanted else re.search(r"\d+\.\d+", found)


def test_state_folder(guest: Guest) -> None:
    """Only the OpenClaw user can enter the folder with its secrets."""
    home = f"$(getent passwd {guest.user} | cut -d: -f6)"
    assert guest.out(f"stat -c '%a %U' {home}/.openclaw") == f"700 {guest.user}"


def test_linger(guest: Guest) -> None:
    """The OpenClaw user's systemd starts at boot, without a login."""
    assert guest.out(f"loginctl show-user {guest.user} -p Linger --value") == "yes"
    assert guest.out(f"systemctl is-active user@$(id -u {guest.user}).service") == "active"


def test_bus(guest: Guest) -> None:
    """A login of the OpenClaw user reaches that user's systemd."""
    assert "yes" in guest.as_user("systemctl --user show-environment >/dev/null && echo yes")


def test_gateway_unit(guest: Guest) -> None:
    """The gateway is a user unit that starts at boot and is running."""
    assert guest.as_user("systemctl --user is-enabled openclaw-gateway.service") == "enabled"
    assert guest.as_user("systemctl --user is-active openclaw-gateway.service") == "active"


def test_gateway_is_confined(guest: Guest) -> None:
    """The gateway can gain no privileges; its system calls are filtered."""
    main = guest.as_user("systemctl --user show -p MainPID --value openclaw-gateway.service")
    state = guest.out(f"cat /proc/{main}/status").splitlines()
    assert "NoNewPrivs:\t1" in state
    assert "Seccomp:\t2" in state


def test_gateway_exposure(guest: Guest) -> None:
    """The gateway's exposure, as systemd counts it, is limited."""
    told = guest.as_user("systemd-analyze --user security --no-pager openclaw-gateway.service")
    found = re.search(r": (\d+\.\d) ", told.splitlines()[-1])
    assert found, f"found {told.splitlines()[-1]}"
    assert float(found[1]) <= _EXPOSURE, f"found {found[1]}, expected {_EXPOSURE} or less"


def test_gateway_is_ready(guest: Guest, expected: Expected) -> None:
    """The gateway reports that it is ready."""
    answer = json.loads(guest.out(f"curl -fsS -m 20 http://127.0.0.1:{expected.port}/readyz"))
    assert answer["ready"] is True
