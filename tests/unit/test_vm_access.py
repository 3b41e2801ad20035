"""The way from a host file to an SSH target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm import access, inventory
from swarm.paths import ROOT

if TYPE_CHECKING:
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
