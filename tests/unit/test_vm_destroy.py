"""What a destroy removes, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from swarm.hypervisor.storage import Volume
from swarm.vm.destroy import Kept, Remains, removal
from swarm.vm.observe import StaleReservation
from tests import samples

if TYPE_CHECKING:
    from swarm.inventory import Host
    from tests.conftest import Dirs

DISK = Volume("claw.qcow2", "/pool/claw.qcow2", 60 << 30, 5_000_000, 5_000_000)
SEED = Volume("swarm-zap-seed.iso", "/pool/swarm-zap-seed.iso", 1000, 1000, 1000)
ENTRY = StaleReservation("default", "52:54:00:01:00:71", "192.168.122.182")


@pytest.fixture
def zap(dirs: Dirs) -> Host:
    """The reference host, read from a hosts folder of the test's own."""
    assert dirs.hosts.is_dir()
    return samples.host()


@pytest.mark.parametrize(
    ("remains", "expected"),
    [
        (Remains(), []),
        (Remains(kept=(Kept("/pool/x", "the domain 'bee' uses it"),)), []),
        (Remains(volumes=(("seed", SEED),)), ["- seed: /pool/swarm-zap-seed.iso, 1.0 kB"]),
        (Remains(reservations=(ENTRY,)), ["- reservation: 192.168.122.182 for 52:54:00:01:00:71"]),
        (
            Remains("zap [claw]", (("disk", DISK), ("seed", SEED)), (ENTRY,)),
            [
                "- disk: /pool/claw.qcow2, 5.0 MB",
                "- seed: /pool/swarm-zap-seed.iso, 1.0 kB",
                "- reservation: 192.168.122.182 for 52:54:00:01:00:71",
                "- domain: zap [claw], with NVRAM and TPM state",
            ],
        ),
    ],
)
def test_what_remains_is_removed_and_the_domain_last(
    zap: Host, remains: Remains, expected: list[str]
) -> None:
    """Every thing found is one deletion; what must be kept is none; the domain, which records the disk, goes last."""
    assert [change.line() for change in removal(zap, remains)] == expected


def test_a_pinned_key_is_removed(zap: Host) -> None:
    """The pinned key is listed with its file."""
    (change,) = removal(zap, Remains(pinned=True))
    assert change.line() == f"- pinned host key: {zap.known_hosts}"
