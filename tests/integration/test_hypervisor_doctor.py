"""What doctor checks for a host depends on where its hypervisor is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from swarm.vm.doctor import examine
from tests import samples

if TYPE_CHECKING:
    from tests.conftest import Dirs


@pytest.mark.parametrize(
    ("uri", "local"),
    [
        ("qemu+tls://127.0.0.1:1/system", False),
        ("qemu+unix:///system?socket=/no/such/socket", True),
    ],
)
def test_only_a_local_hypervisor_needs_local_programs(dirs: Dirs, uri: str, local: bool) -> None:  # noqa: FBT001
    """KVM, programs and firmware of this machine are checked only if a VM runs on it."""
    assert dirs.hosts.is_dir()
    found = examine([samples.host(uri=uri, source="/srv/share")])
    about = [finding.what for finding in found if "KVM" in finding.what or "virtiofsd" in finding.what]
    assert bool(about) is local
    assert any(uri in finding.what for finding in found if finding.level == "failure")
