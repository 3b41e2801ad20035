"""What start and stop say of a VM that they can't work on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from swarm.embedded import Embedded
from swarm.errors import HypervisorError, Refused
from swarm.hypervisor.connection import Libvirt
from swarm.hypervisor.domain import Domain
from swarm.hypervisor.network import Network
from swarm.hypervisor.storage import Pool
from swarm.vm import desired, verbs
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


@pytest.mark.usefixtures("dirs")
def test_a_paused_vm_is_not_asked_to_power_off() -> None:
    """`stop` refuses a paused VM at once and names both ways on, since its guest can't do anything. `--force` works."""
    host = samples.host(uri="test:///default")
    with Libvirt(host.hypervisor.uri) as connection:
        domain = Domain.define(connection, desired.domain_xml(host, "qemu", None))
        try:
            domain.start()
            domain.raw.suspend()
            with pytest.raises(Refused, match="zap is paused, so its guest can't power off") as caught:
                verbs.stop(host, talk()[0], limit=0.1)
            assert domain.state == "paused"
            assert "./inv start --host zap" in str(caught.value.hint)
            assert verbs.stop(host, talk()[0], force=True)
            assert domain.state == "stopped"
        finally:
            domain.power_off()
            domain.undefine()


class _Late:
    """A network or pool that somebody else starts between the question whether it runs and its start."""

    def __init__(self, raw: Any) -> None:  # noqa: ANN401 - libvirt's objects have no types
        self._raw, self._asked = raw, False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as above
        return getattr(self._raw, name)

    def isActive(self) -> bool:  # noqa: N802 - libvirt's name
        """Say once that it does not run."""
        asked, self._asked = self._asked, True
        return asked and bool(self._raw.isActive())


def test_hosts_side_by_side_start_one_network_and_pool() -> None:
    """Of two hosts that start a network or a pool at the same moment, neither fails."""
    with Libvirt("test:///default") as lab:
        network, pool = Network(lab, "default"), Pool(lab.raw.storagePoolLookupByName("default-pool"))
        network.raw, pool.raw = _Late(network.raw), _Late(pool.raw)
        network.activate()
        assert pool.activate()
        assert (network.active, pool.raw.isActive()) == (True, True)
