"""One embedded hypervisor for all tests that need a real libvirt but no VM."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from swarm.embedded import Embedded
from swarm.hypervisor.connection import Libvirt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PROGRAMS = ("unshare", "nsenter", "ip", "libvirtd", "dnsmasq", "qemu-system-x86_64", "qemu-img")


@pytest.fixture(scope="session")
def able() -> None:
    """Skip where the embedded hypervisor cannot run."""
    lacking = [
        name for name in _PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    ]
    lacking += [] if os.geteuid() == 0 else ["root"]
    if lacking:
        pytest.skip(f"the embedded hypervisor needs {', '.join(lacking)}")


@pytest.fixture(scope="session")
def embedded(able: None, base: Path) -> Iterator[Embedded]:  # noqa: ARG001 - asked for what it skips
    """A running embedded hypervisor; tests clean up what they make in it."""
    state = base / "emb"
    state.mkdir()
    made = Embedded(state)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def libvirt(embedded: Embedded) -> Iterator[Libvirt]:
    """A connection to it."""
    with Libvirt("embedded", embedded) as made:
        yield made
