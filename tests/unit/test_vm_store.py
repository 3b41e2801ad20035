"""The images that are in use: those of VMs, and those of the drills of machines without a VM."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from swarm.console import Talk, screen
from swarm.images.cache import adopt
from swarm.vm import store
from swarm.vm.throwaway import with_vm
from tests import samples
from tests.unit.machines import FAR, vps

if TYPE_CHECKING:
    from tests.conftest import Dirs


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="an image is made by qemu-img")
def test_the_image_of_a_drill_is_used(dirs: Dirs) -> None:
    """The image that drill.image names is not pruned between two drills."""
    host = vps(dirs, "test:///default")
    fresh = dirs.cache / "fresh"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", fresh, "1M"], check=True)
    adopt(fresh, "debian-13.qcow2", "debian-13")
    found = store.survey([host], Talk(screen()))
    assert [(item.name, item.users) for item in found.items] == [("debian-13.qcow2", ("claw",))]


def test_the_hypervisor_of_a_drill_is_listed(dirs: Dirs, capsys: pytest.CaptureFixture[str]) -> None:
    """The pools of drill.hypervisor are looked at, and one that does not answer is named."""
    assert store.survey([vps(dirs)], Talk(screen())).items == ()
    assert f"the images of {FAR} are not listed" in capsys.readouterr().err


def test_the_drills_vm_follows_from_the_section(dirs: Dirs) -> None:
    """Hypervisor and image are those of the section drill; a host with a VM keeps its own."""
    host = with_vm(vps(dirs, image="debian-12"))
    assert (host.hypervisor.uri, host.vm.image, host.foreign) == (FAR, "debian-12", False)
    own = samples.host()
    assert with_vm(own) is own
