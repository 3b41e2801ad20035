"""What start and stop say of a VM that they can't work on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from swarm.embedded import Embedded
from swarm.errors import HypervisorError
from swarm.vm import verbs
from tests import samples
from tests.unit.ladders import talk

if TYPE_CHECKING:
    from tests.conftest import Dirs


@pytest.mark.parametrize(("ran", "pinned"), [(False, False), (False, True), (True, False)])
def test_a_host_without_a_vm_is_not_stopped_already(dirs: Dirs, *, ran: bool, pinned: bool) -> None:
    """`stop` says that there is no VM where the embedded hypervisor never ran, or the host has no pinned key."""
    host = samples.host(uri="embedded")
    if ran:
        (Embedded().state / "lib").mkdir(parents=True)
    if pinned:
        (dirs.hosts / "zap.known_hosts").touch()
    with pytest.raises(HypervisorError, match=r"^zap has no VM yet") as caught:
        verbs.stop(host, talk()[0])
    assert caught.value.hint == "./inv provision --host zap makes it"


def test_a_vm_of_a_hypervisor_that_does_not_run_is_stopped(dirs: Dirs) -> None:
    """`stop` starts no embedded hypervisor: without it, a VM that was made is stopped already."""
    host = samples.host(uri="embedded")
    (Embedded().state / "lib").mkdir(parents=True)
    (dirs.hosts / "zap.known_hosts").touch()
    speaker, log = talk()
    assert verbs.stop(host, speaker) is False
    assert "zap: already stopped, nothing to do" in log.getvalue()
