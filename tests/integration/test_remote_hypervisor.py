"""A hypervisor behind a real sshd: its folders and addresses are known before anything is made there."""

from __future__ import annotations

import os
import shutil
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, NamedTuple

import pytest

from swarm import ssh
from swarm.errors import InventoryError, Refused
from swarm.hypervisor.connection import Libvirt
from swarm.vm import egress
from swarm.vm.difference import make_plan
from swarm.vm.doctor import examine
from swarm.vm.observe import observe
from swarm.vm.remote import Remote
from tests import samples
from tests.sshd import USER, Sshd, login_key, personal_ssh

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from swarm.embedded import Embedded
    from swarm.hypervisor.network import Network
    from swarm.vm.doctor import Finding
    from tests.conftest import Dirs


class Box(NamedTuple):
    """The other machine: its server, the URI of its libvirt, and the user's own ssh_config."""

    server: Sshd
    uri: str
    config: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sshd, Path]]:
    """A server that accepts a key of the test's own, and that key."""
    identity = tmp_path_factory.mktemp("key") / "id"
    with Sshd(tmp_path_factory.mktemp("box"), [login_key(identity)]) as made:
        yield made, identity


@pytest.fixture
def box(server: tuple[Sshd, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    """The server as `box` in a person's ssh_config, which `ssh` without -F reads."""
    made, identity = server
    known_hosts = tmp_path / "known_hosts"
    ssh.pin(known_hosts, ["box"], made.public)
    config = personal_ssh(
        tmp_path,
        f"Host box\n  HostName 127.0.0.1\n  Port {made.port}\n  HostKeyAlias box\n"
        f"Host *\n  UserKnownHostsFile {known_hosts}\n  IdentityFile {identity}\n  IdentitiesOnly yes\n",
        monkeypatch,
    )
    return Box(made, f"qemu+ssh://{USER}@box/system", config)


@pytest.fixture
def libvirt_there(box: Box, embedded: Embedded, network: Network) -> Iterator[Libvirt]:
    """A connection over SSH to a real libvirt, whose socket is where that machine has it."""
    if not shutil.which("virt-ssh-helper"):
        pytest.skip("libvirt over SSH needs virt-ssh-helper")
    assert network.active
    place = box.server.run / "libvirt" / "libvirt-sock"
    place.parent.mkdir(exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(embedded.state / "run" / "libvirt-sock")
    with Libvirt(box.uri) as made:
        yield made


def test_one_answer_for_all_paths(box: Box, tmp_path: Path) -> None:
    """Folders, files, missing paths, links and awkward names are told apart in one round trip."""
    odd = tmp_path / "it's a $(folder)"
    odd.mkdir()
    (odd / "disk").touch()
    (tmp_path / "link").symlink_to("/usr/lib")
    (tmp_path / "dangling").symlink_to("nowhere")
    paths = tuple(map(str, (odd, odd / "disk", odd / "none/below", tmp_path / "link", tmp_path / "dangling")))
    before = box.server.log().count("Accepted publickey")
    found = Remote(box.uri, paths).found
    assert found.problem == ""
    assert found.answer is not None
    entries = [found.answer.paths[path] for path in paths]
    assert [each.kind for each in entries] == ["folder", "other", "missing", "folder", "missing"]
    assert (entries[0].names, entries[0].real, entries[3].real) == (("disk",), str(odd), "/usr/lib")
    assert entries[2].above[-1].path == str(odd)
    assert all(each.free for each in entries)
    assert IPv4Address("127.0.0.1") in found.answer.addresses
    assert box.server.log().count("Accepted publickey") == before + 1


def test_a_machine_that_gives_no_shell_is_not_asked(box: Box, tmp_path: Path) -> None:
    """Without a login there is no answer but a reason, and the address that the user's ssh_config names."""
    box.config.write_text(
        box.config.read_text().replace("IdentityFile", f"IdentityFile {tmp_path}/none\n#"), encoding="utf-8"
    )
    found = Remote(box.uri, ("/srv",)).found
    assert found.answer is None
    assert "Permission denied" in found.problem
    assert found.reached == frozenset([IPv4Address("127.0.0.1")])


def test_a_machine_behind_tls_is_not_asked() -> None:
    """Without SSH there is no way to ask, and nothing is started."""
    found = Remote("qemu+tls://192.0.2.7/system", ("/srv",)).found
    assert (found.answer, found.asked, found.reached) == (None, False, frozenset([IPv4Address("192.0.2.7")]))


def told(findings: list[Finding], level: str) -> str:
    """Return what doctor says at one level."""
    return "\n".join(finding.what for finding in findings if finding.level == level)


@pytest.mark.skipif(os.geteuid() != 0, reason="the embedded hypervisor needs root")
@pytest.mark.usefixtures("dirs")
def test_a_missing_share_is_refused_before_anything_is_made(
    box: Box, libvirt_there: Libvirt, tmp_path: Path
) -> None:
    """The plan names the host file's line and the machine, and doctor says the same."""
    host = samples.host(uri=box.uri, source=str(tmp_path / "gone"))
    with pytest.raises(InventoryError, match=rf"virtiofs\.source: {tmp_path}/gone does not exist on box"):
        make_plan(host, observe(host, libvirt_there))
    assert f"zap: the share {tmp_path}/gone does not exist on box" in told(examine([host]), "failure")
    (tmp_path / "gone").mkdir()
    assert make_plan(host, observe(host, libvirt_there))


@pytest.mark.usefixtures("dirs")
def test_an_occupied_folder_does_not_become_a_pool(box: Box, libvirt_there: Libvirt, tmp_path: Path) -> None:
    """A folder with files, and a link to one of the system, are refused as the place of disks."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "thesis.odt").touch()
    (tmp_path / "link").symlink_to("/usr/lib")
    host = samples.host(uri=box.uri, source=str(tmp_path), disk_path=f"{tmp_path}/files/zap.qcow2")
    with pytest.raises(Refused, match=r"it holds files such as 'thesis\.odt'"):
        make_plan(host, observe(host, libvirt_there))
    assert "it holds files such as 'thesis.odt'" in told(examine([host]), "failure")
    linked = samples.host(uri=box.uri, source=str(tmp_path), disk_path=f"{tmp_path}/link/zap.qcow2")
    with pytest.raises(Refused, match="leads to /usr/lib, a folder of the system"):
        make_plan(linked, observe(linked, libvirt_there))


@pytest.mark.usefixtures("dirs", "libvirt_there")
def test_doctor_finds_a_folder_that_qemu_cannot_search(box: Box, tmp_path: Path) -> None:
    """A closed folder above the disk is named, with the command that opens it on that machine."""
    (tmp_path / "closed" / "disks").mkdir(parents=True)
    host = samples.host(uri=box.uri, source=str(tmp_path), disk_path=f"{tmp_path}/closed/disks/zap.qcow2")
    tmp_path.chmod(0o755)
    (tmp_path / "closed").chmod(0o700)
    above = next(
        path
        for path in (*reversed((tmp_path / "closed").parents), tmp_path / "closed")
        if not path.stat().st_mode & 0o001
    )
    found = [each for each in examine([host]) if "cannot search" in each.what]
    assert [each.what for each in found] == [
        f"zap: QEMU's user cannot search {above} on box, which is above {host.vm.disk_path}"
    ]
    assert found[0].remedy == f"sudo chmod o+x {above} on box"


@pytest.mark.usefixtures("dirs", "libvirt_there")
def test_doctor_says_what_it_could_not_check(box: Box, dirs: Dirs, tmp_path: Path) -> None:
    """Where libvirt answers but the shell does not, the rest is checked, and that is no failure."""
    assert dirs.hosts.is_dir()
    script = tmp_path / "bin" / "ssh"
    # libvirt asks for its helper; what asks for a plain shell is cut off, as by a forced command.
    script.write_text(
        script.read_text().replace(
            "for word", 'for word; do [ "$word" = "exec sh" ] && exit 1; done\nfor word'
        )
    )
    host = samples.host(uri=box.uri, source=str(tmp_path / "gone"))
    findings = examine([host])
    assert "on box, and its addresses, were not checked: ssh ended with exit code 1" in told(
        findings, "warning"
    )
    assert f"{box.uri}: works" in told(findings, "ok")
    assert "gone" not in told(findings, "failure")


@pytest.mark.usefixtures("dirs")
def test_the_filter_does_not_change_from_run_to_run(box: Box, libvirt_there: Libvirt, tmp_path: Path) -> None:
    """What the hypervisor says of its addresses is the same each time, also when it says nothing for once."""
    host = samples.host(uri=box.uri, source=str(tmp_path))
    first, second = (observe(host, libvirt_there).filter for _ in range(2))
    assert (first.own, first.doubt) == (second.own, "")
    own = egress.public(Remote(box.uri).found.answer.addresses)  # type: ignore[union-attr] # it was asked before
    assert own <= first.own
