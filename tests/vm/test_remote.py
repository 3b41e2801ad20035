"""A VM on another machine, over qemu+ssh: a Debian with systemd and its own, ordinary libvirt."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.vm.conftest import CACHE
from tests.vm.lab import Lab, Ran
from tools.lab import Machine, World, missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

PACKAGES = (
    "libvirt-daemon-system libvirt-clients qemu-system-x86 qemu-utils ovmf swtpm swtpm-tools dnsmasq-base "
    "iptables netcat-openbsd"
)
IMAGES = "/var/lib/libvirt/images"
HOST: dict[str, Any] = {
    "hypervisor": {"uri": "qemu+ssh://root@box/system"},
    "vm": {
        "domain": "far",
        "hostname": "far",
        "image": "built",
        "memory_mib": 1024,
        "vcpus": 1,  # as in tests/vm/lab.py
        "disk_path": f"{IMAGES}/far.qcow2",
        "disk_size": "20G",
        "mac": "52:54:00:00:fa:30",
        "ip": "192.168.122.40",
        "virtiofs": {"source": "/srv/share", "tag": "swarm", "target": "/mnt/swarm"},
    },
}


@pytest.fixture(scope="module")
def box() -> Iterator[Machine]:
    """The other machine, with libvirt as the distribution sets it up."""
    if lacking := missing():
        pytest.skip(f"a second machine needs {', '.join(lacking)}")
    with World() as world:
        machine = world.machine(internet=True, binds=("/dev/net/tun",))
        machine.ssh(
            "apt-get update -q && DEBIAN_FRONTEND=noninteractive "
            f"apt-get install -y -q --no-install-recommends {PACKAGES}"
        )
        machine.ssh("virsh net-start default; mkdir /srv/share")
        yield machine


@pytest.fixture(scope="module")
def lab(base: Path, box: Machine) -> Iterator[Lab]:
    """Swarm in the network of that machine, with an ssh that has it in its configuration."""
    programs = base / "far" / "bin"
    programs.mkdir(parents=True)
    config = base / "far" / "person.config"
    config.write_text(box.config_inside.read_text().replace(f"Host {box.alias}", "Host box"))
    (programs / "ssh").write_text(
        # As a person's ~/.ssh/config would be read: not where another one is named.
        f'#!/bin/sh\ncase " $* " in *" -F "*) exec {shutil.which("ssh")} "$@" ;; esac\n'
        f'exec {shutil.which("ssh")} -F {config} "$@"\n'
    )
    (programs / "ssh").chmod(0o755)
    made = Lab(
        base / "far" / "lab",
        CACHE,
        before=tuple(box.world.inside("env", f"PATH={programs}:{os.environ['PATH']}")),
    )
    made.write("far", HOST)
    yield made
    made.close()


@pytest.fixture(scope="module")
def provisioned(lab: Lab) -> Ran:
    """The output of `./inv provision --host far`."""
    return lab.inv("provision", "--host", "far")


def test_a_missing_share_is_found_before_anything_is_made(box: Machine, lab: Lab) -> None:
    """The plan and doctor name the share that the other machine does not have, and leave nothing there."""
    share = {"source": "/srv/gone", "tag": "swarm", "target": "/mnt/swarm"}
    own = {"domain": "lost", "hostname": "lost", "mac": "52:54:00:00:fa:31", "ip": "192.168.122.41"}
    disk = f"{IMAGES}/lost.qcow2"
    lab.write("lost", {**HOST, "vm": {**HOST["vm"], **own, "disk_path": disk, "virtiofs": share}})
    refused = lab.inv("provision", "--host", "lost")
    doctor = lab.inv("doctor", "--host", "lost", "--json")
    (lab.base / "hosts/lost.yaml").unlink()
    assert refused.code != 0
    assert "vm.virtiofs.source: /srv/gone does not exist on box" in refused.err
    failures = [each["what"] for each in doctor.data if each["level"] == "failure"]
    assert "lost: the share /srv/gone does not exist on box" in failures
    assert box.ssh("virsh list --all --name; ls " + IMAGES).strip() == ""


def test_it_is_made_there(box: Machine, lab: Lab, provisioned: Ran) -> None:
    """One command makes the VM on the other machine, from this machine's image, and waits until it is ready."""
    assert provisioned.code == 0, provisioned.err
    assert "far is ready at 192.168.122.40" in provisioned.err
    assert "Traceback" not in provisioned.err
    assert box.ssh("virsh list --name").split() == ["far"]
    assert lab.ssh("far", "uname -n") == "far\n"


def test_its_share_is_a_folder_there(box: Machine, lab: Lab, provisioned: Ran) -> None:
    """The guest's share is a folder of the other machine."""
    assert provisioned.code == 0
    lab.ssh("far", "echo hello >/mnt/swarm/greeting")
    assert box.ssh("cat /srv/share/greeting") == "hello\n"


def test_a_second_run_changes_nothing(lab: Lab, provisioned: Ran) -> None:
    """A second run finds nothing to do, and status finds the VM well."""
    assert provisioned.code == 0
    again = lab.inv("provision", "--host", "far")
    assert (again.code, again.err) == (0, "nothing to do\n")
    (status,) = lab.inv("status", "--host", "far", "--json").data
    assert (status["vm"], status["ssh"], status["drift"]) == ("running", "ok", "none")


def test_every_look_at_it_works(lab: Lab, provisioned: Ran) -> None:
    """plan, doctor, hosts --check, images, pin and console work as with a hypervisor on this machine."""
    assert provisioned.code == 0
    plan = lab.inv("plan", "--host", "far", "--only", "vm")
    assert plan.code == 0, plan.out + plan.err
    findings = lab.inv("doctor", "--host", "far", "--json").data
    about = [each for each in findings if "far" in each["what"] or "box" in each["what"]]
    assert [each["what"] for each in about if each["level"] == "failure"] == []
    assert any(each["what"].startswith("qemu+ssh://root@box/system: works") for each in about)
    assert not any("not checked" in each["what"] for each in about)
    check = lab.inv("hosts", "--check", "--json")
    assert (check.code, check.data["findings"]) == (0, []), check.out
    assert not any("was not asked" in note for note in check.data["notes"])
    there = [each for each in lab.inv("images", "--json").data["images"] if "box" in each["where"]]
    assert [each["users"] for each in there] == [["far.qcow2"]]
    assert lab.inv("pin", "--host", "far", "--yes").code == 0
    assert lab.ssh("far", "uname -n") == "far\n"
    # The firmware's words. The login prompt may be yet to come.
    assert "BdsDxe: starting Boot" in lab.inv("console", "--host", "far").out


def test_destroy_leaves_only_the_base_image(box: Machine, lab: Lab, provisioned: Ran) -> None:
    """After destroy, only the base image is left on the other machine."""
    assert provisioned.code == 0
    gone = lab.inv("destroy", "--host", "far", "--yes")
    assert gone.code == 0, gone.err
    assert box.ssh("virsh list --all --name").strip() == ""
    assert "52:54:00:00:fa:30" not in box.ssh("virsh net-dumpxml default")
    assert [
        name for name in box.ssh(f"ls {IMAGES} /var/lib/libvirt/qemu/nvram").split() if "far" in name
    ] == []
    assert "swarm-base-built" in box.ssh(f"ls {IMAGES}")
