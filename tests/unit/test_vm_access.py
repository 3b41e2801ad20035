"""The way from a host file to an SSH target, and what the guest must let in for it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, NoReturn, cast

import pytest

from swarm import access, inventory
from swarm.console import Talk, screen
from swarm.errors import Unreachable
from swarm.fleet import parts
from swarm.paths import ROOT

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from swarm.ssh.link import Link
    from tests.conftest import Dirs


def test_only_a_way_that_cannot_be_recorded_is_sheltered(dirs: Dirs) -> None:
    """A connection to a remote hypervisor's guest is sheltered only if it goes through SSH."""
    text = (ROOT / "hosts/demo.yaml").read_text(encoding="utf-8")
    found = {}
    for uri in ("embedded", "qemu:///system", "qemu+ssh://root@box/system", "qemu+tls://box/system"):
        own = text.replace("uri: embedded", f"uri: {uri}").replace("source: demo", "source: /srv/share")
        (dirs.hosts / "demo.yaml").write_text(own, encoding="utf-8")
        found[uri] = access.target(inventory.load("demo")).sheltered
    assert list(found.values()) == [True, True, True, False]


class Listener:
    """A way to a guest that keeps what the guest is asked, and then breaks."""

    alias = "claw"
    asked = ""

    def connecting(self) -> AbstractContextManager[None]:
        """Connect to nothing."""
        return nullcontext()

    def script(self, script: str, *_: object) -> NoReturn:
        """Keep the script."""
        self.asked = script
        raise Unreachable("no guest")


def test_the_port_of_ssh_stays_open(dirs: Dirs) -> None:
    """A machine whose SSH server is reached on another port than 22 gets a firewall with that port open too."""
    text = "hypervisor: {uri: none}\nmachine: {address: 203.0.113.7, hostname: claw, port: 2222}\n"
    (dirs.hosts / "claw.yaml").write_text(text, encoding="utf-8")
    host, way = inventory.load("claw"), Listener()
    with pytest.raises(Unreachable):
        parts.installing(host, cast("Link", way), Talk(screen()), plan_only=True)
    assert "ufw_rule_fact 22 tcp" in way.asked
    assert "ufw_rule_fact 2222 tcp" in way.asked
    assert parts.expected(host).ssh_port == 2222
