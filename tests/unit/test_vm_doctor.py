"""What doctor asks of this machine, and of the hypervisors that only drills use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from swarm.images.build import PROGRAMS
from swarm.vm.doctor import examine
from swarm.vm.software import firmware, needed, programs
from tests import samples
from tests.unit.machines import FAR, vps

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Dirs


@pytest.mark.parametrize(
    ("uri", "image", "expected", "not_expected"),
    [
        (FAR, "debian-13", {"ssh", "qemu-img"}, {"mmdebstrap", "swtpm"}),
        (FAR, "built", {"ssh", *PROGRAMS}, {"swtpm", "libvirtd"}),
        ("embedded", "debian-13", {"ssh", "qemu-img", "swtpm", "libvirtd"}, {"mmdebstrap"}),
        ("embedded", "built", {"ssh", "swtpm", *PROGRAMS}, set()),
    ],
)
@pytest.mark.usefixtures("dirs")
def test_which_programs_this_machine_needs(
    uri: str, image: str, expected: set[str], not_expected: set[str]
) -> None:
    """Images are built and checked here wherever the VM runs, and every host needs ssh."""
    found = [program for program, _, _ in needed([samples.host(uri=uri, image=image, source="/data/share")])]
    assert expected <= set(found)
    assert not not_expected & set(found)
    assert len(found) == len(set(found))


def test_a_machine_of_another_engine_needs_ssh() -> None:
    """Without a VM, only ssh is needed."""
    assert [program for program, _, _ in needed([])] == ["ssh"]


@pytest.mark.usefixtures("dirs")
def test_a_missing_program_is_found_for_a_remote_hypervisor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Doctor names ssh and what the image needs, with the package."""
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {each.what: each for each in programs([samples.host(uri=FAR, source="/data/share")])}
    what = "ssh is missing, which swarm needs to log into guests"
    assert (found[what].level, found[what].remedy) == ("failure", "sudo apt-get install openssh-client")


def test_the_hypervisor_of_a_drill_is_checked(dirs: Dirs) -> None:
    """Doctor asks the hypervisor that the drill of a machine without a VM uses. Its failure is a warning."""
    findings = examine([vps(dirs)])
    (found,) = [each for each in findings if FAR in each.what]
    assert (found.level, "claw" in found.what) == ("warning", True)
    assert not [each for each in findings if each.level == "failure"]
    assert not [each for each in examine([vps(dirs, backup=False)]) if FAR in each.what]


def test_the_hypervisor_of_a_host_is_no_softer_because_of_a_drill(dirs: Dirs) -> None:
    """A hypervisor that a VM needs fails, whoever else drills there."""
    hosts = [vps(dirs), samples.host(uri=FAR, source="/data/share")]
    (found,) = [each for each in examine(hosts) if FAR in each.what]
    assert found.level == "failure"


@pytest.mark.parametrize("kvm_first", [True, False])
@pytest.mark.usefixtures("dirs")
def test_a_host_that_demands_kvm_in_vain_fails_alone(*, kvm_first: bool) -> None:
    """Each host's own acceleration counts, whatever the first one of its hypervisor has, and the others are checked."""
    uri = "test:///default"
    zap = samples.host(uri=f"{uri}\n  acceleration: emulation", network="none-here", source="/no/such/folder")
    bee = samples.variant(zap, name="bee").model_copy(
        update={"hypervisor": zap.hypervisor.model_copy(update={"acceleration": "kvm"})}
    )
    findings = examine([bee, zap] if kvm_first else [zap, bee])
    failed = [each.what for each in findings if each.level == "failure"]
    (found,) = [what for what in failed if "cannot run KVM domains" in what]
    assert found.startswith(f"{uri} (bee): ")
    shares = [what for what in failed if what.endswith("/no/such/folder does not exist")]
    assert sorted(what.partition(":")[0] for what in shares) == ["bee", "zap"]


SECURE = '{"features": ["secure-boot", "enrolled-keys", "requires-smm"]}'


@pytest.fixture
def descriptions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, Path]:
    """The directories of packages and of the administrator in which firmware is described."""
    folders = tmp_path / "usr", tmp_path / "etc"
    for folder in folders:
        folder.mkdir()
    monkeypatch.setattr("swarm.vm.software._FIRMWARE", folders)
    return folders


@pytest.mark.parametrize("text", ["{", "[1, 2]", "7", "{}", '{"features": 3}', "[" * 100_000])
def test_a_damaged_description_of_firmware_is_a_failure(descriptions: tuple[Path, Path], text: str) -> None:
    """Doctor names a file that libvirt can't read as a description of firmware, and reads the others."""
    damaged, whole = descriptions[0] / "10-damaged.json", descriptions[0] / "40-whole.json"
    damaged.write_text(text, encoding="utf-8")
    whole.write_text(SECURE, encoding="utf-8")
    bad, good = firmware()
    assert (bad.level, bad.what.startswith(f"{damaged} is no description of firmware")) == ("failure", True)
    assert (good.level, good.what.endswith(str(whole))) == ("ok", True)


def test_an_administrators_description_of_firmware_replaces_the_packages(
    descriptions: tuple[Path, Path],
) -> None:
    """Doctor judges firmware as libvirt does: a file in /etc replaces the package's, and an empty one hides it."""
    ours, theirs = (folder / "40-secure.json" for folder in descriptions)
    ours.write_text(SECURE, encoding="utf-8")
    assert [each.level for each in firmware()] == ["ok"]
    theirs.touch()
    assert [each.level for each in firmware()] == ["failure"]
    theirs.write_text(SECURE, encoding="utf-8")
    (found,) = firmware()
    assert (found.level, found.what.endswith(str(theirs))) == ("ok", True)
