"""Host files are found by name and read with any line endings."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from ipaddress import IPv4Address
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from swarm import inventory
from swarm.commands.hosts import hosts
from swarm.paths import ROOT, shares_dir
from tests.unit.hostfiles import ZAP, refused, write

if TYPE_CHECKING:
    from tests.conftest import Dirs


def test_zap_is_the_reference_vm(monkeypatch: pytest.MonkeyPatch) -> None:
    """hosts/zap.yaml describes exactly the reference VM."""
    monkeypatch.delenv("SWARM_HOSTS")
    monkeypatch.setenv("HOME", "/home/ann")
    zap = inventory.load("zap")
    assert zap.hypervisor.acceleration == "auto"
    assert zap.model_dump(exclude_unset=True) == {
        "name": "zap",
        "hypervisor": {"uri": "qemu:///system", "network": "default"},
        "vm": {
            "domain": "zap [claw]",
            "hostname": "zap",
            "image": "ubuntu-24.04",
            "memory_mib": 3072,
            "vcpus": 2,
            "disk_path": PurePosixPath("/var/lib/libvirt/images/claw.qcow2"),
            "disk_size": 60 << 30,
            "mac": "52:54:00:01:00:71",
            "ip": IPv4Address("192.168.122.182"),
            "virtiofs": {
                "source": Path("/home/ann/lab/swarm"),
                "tag": "swarm",
                "target": PurePosixPath("/mnt/swarm"),
            },
            "autostart": True,
        },
        "guest": {"swappiness": 10},
        "openclaw": {"install_mode": "release", "ssh_keys": ()},
        "backup": {
            "endpoint": "http://192.168.153.253:9000",
            "destinations": ("s3://zap/backups/",),
            "keep": 7,
        },
    }
    assert zap.known_hosts == ROOT / "hosts" / "zap.known_hosts"
    assert inventory.locate("zap", "vm", "ip") == "hosts/zap.yaml:15:"


def test_the_projects_host_files_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    """All host files of the project are valid, and demo uses the embedded libvirt."""
    monkeypatch.delenv("SWARM_HOSTS")
    hosts = {host.name: host for host in inventory.load_all()}
    assert {"demo", "zap"} <= set(hosts)
    assert hosts["demo"].hypervisor.uri == inventory.EMBEDDED
    share = hosts["demo"].vm.virtiofs
    assert share
    assert share.source == shares_dir() / "demo"


def test_a_host_is_immutable(dirs: Dirs) -> None:
    """The values of a loaded host cannot be changed."""
    write(dirs, "bee")
    with pytest.raises(ValidationError):
        inventory.load("bee").vm.vcpus = 4


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"], ids=["unix", "windows", "old mac"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "bom"])
def test_any_line_ending_and_a_byte_order_mark_are_accepted(dirs: Dirs, ending: str, mark: bytes) -> None:
    """Line endings and a byte order mark change neither the values nor the line numbers."""
    path = write(dirs, "bee")
    right = inventory.load("bee")
    path.write_bytes(mark + path.read_text().replace("\n", ending).encode())
    assert inventory.load("bee") == right
    assert inventory.locate("bee", "vm", "ip") == f"{path}:15:"


def test_a_mac_of_digits_alone_is_text(dirs: Dirs) -> None:
    """A MAC is not read as a base 60 number, even if the file declares YAML 1.1, in which it is one."""
    path = write(dirs, "bee", mac="52:54:00:01:00:11")
    path.write_text("%YAML 1.1\n---\n" + path.read_text())
    assert inventory.load("bee").vm.mac == "52:54:00:01:00:11"


def test_a_relative_share_is_one_of_swarms_own(dirs: Dirs) -> None:
    """virtiofs.source may be relative or absolute, and contain spaces."""
    write(dirs, "bee", source="my folder/x")
    write(dirs, "cow", source="/srv/my folder")
    assert [host.vm.virtiofs and host.vm.virtiofs.source for host in inventory.load_all()] == [
        shares_dir() / "my folder/x",
        Path("/srv/my folder"),
    ]


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_damaged_ssh_key_is_refused(dirs: Dirs, tmp_path: Path, kind: str) -> None:
    """A key from ssh-keygen is accepted with or without its comment. A damaged key is refused."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "ann at box", "-f", tmp_path / "key"], check=True
    )
    line = (tmp_path / "key.pub").read_text().strip()
    name, body, _ = line.split(maxsplit=2)
    write(dirs, "bee", ssh_keys=json.dumps([line, f"{name} {body}"]))
    assert inventory.load("bee").openclaw.ssh_keys == (line, f"{name} {body}")
    cut = [f"{name} {body[:end]}" for end in range(1, len(body))]
    more = base64.b64encode(base64.b64decode(body) + b"more").decode()
    other = "ssh-rsa" if name != "ssh-rsa" else "ssh-ed25519"
    write(dirs, "bee", ssh_keys=json.dumps([*cut, f"{other} {body}", name, body, f"{name} {more}"]))
    with refused() as error:
        inventory.load("bee")
    assert error[0].startswith(f"{len(cut) + 4} problems in ")


def test_virtiofs_is_optional(dirs: Dirs) -> None:
    """The section virtiofs may be omitted or null."""
    path = write(dirs, "bee")
    begin, _, rest = path.read_text().partition("  virtiofs:\n")
    end = rest[rest.index("  autostart") :]
    for text in (begin + end, f"{begin}  virtiofs: null\n{end}"):
        path.write_text(text)
        assert inventory.load("bee").vm.virtiofs is None


def test_the_hint_for_an_unknown_host_is_a_similar_name(dirs: Dirs) -> None:
    """The hint for an unknown host is the most similar name, or all names."""
    with refused() as error:
        inventory.load("bee")
    assert error == [
        f"there is no host 'bee': {dirs.hosts / 'bee.yaml'} does not exist",
        f"there are no host files in {dirs.hosts}",
    ]
    write(dirs, "bumble")
    write(dirs, "cow")
    for name, hint in (("bumbel", "did you mean bumble?"), ("quagga", "known hosts: bumble, cow")):
        with refused() as error:
            inventory.load(name)
        assert error[1] == hint
    (dirs.hosts / "dog.yml").write_text(ZAP)
    with refused() as error:
        inventory.load("dog")
    assert error[1] == "rename dog.yml to dog.yaml"


@pytest.mark.parametrize("name", ["../zap", "a/b", "", "all", "Zap", "-x", "a b", "a\0b", "é", "x" * 33])
def test_an_invalid_name_is_refused(dirs: Dirs, name: str) -> None:
    """A host's name cannot be a path, and cannot be 'all', which --host accepts for all hosts."""
    write(dirs, "zap")
    with refused() as error:
        inventory.load(name)
    assert error[0].startswith(f"{name!r} is not a valid name for a host: expected at most 32 ")


def test_files_that_are_not_host_files_are_refused(dirs: Dirs) -> None:
    """A directory, a dangling link, a pipe and a misnamed file are refused. Hidden files are ignored."""
    path = dirs.hosts / "bee.yaml"
    (dirs.hosts / ".#bee.yaml").symlink_to("ann@box.1234")
    assert inventory.names() == []
    path.mkdir()
    with refused() as error:
        inventory.load_all()
    assert error[0] == f"{path}: expected a regular file, found a directory"
    path.rmdir()
    path.symlink_to("gone.yaml")
    with refused() as error:
        inventory.load("bee")
    assert error == [
        f"{path} is a symbolic link to gone.yaml, which does not exist",
        "correct or remove the link",
    ]
    path.unlink()
    os.mkfifo(path)
    with refused() as error:
        inventory.load("bee")
    assert error[0] == f"{path}: expected a regular file, found a special file"
    path.unlink()
    path.symlink_to(path)
    with refused() as error:
        inventory.load("bee")
    assert error[0] == f"{path}: cannot be read: Too many levels of symbolic links"
    path.rename(dirs.hosts / "My Bee.yaml")
    with refused() as error:
        inventory.load_all()
    assert error[0] == f"{dirs.hosts / 'My Bee.yaml'}: 'My Bee' is not a valid name for a host"


def test_an_unreadable_file_is_reported(dirs: Dirs) -> None:
    """A file without read permission gives one error with the cause."""
    path = write(dirs, "bee")
    path.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # root can read every file
            os.seteuid(65534)
        with refused() as error:
            inventory.load("bee")
    finally:
        os.seteuid(user)
    assert error[0] == f"{path}: cannot be read: Permission denied"


def test_locate_always_returns_a_line(dirs: Dirs) -> None:
    """The line is the field's, else its section's, else 1. The file may be invalid or missing."""
    path = write(dirs, "bee")
    assert inventory.locate("bee", "vm", "virtiofs", "source") == f"{path}:17:"
    assert inventory.locate("bee", "vm", "virtiofs", "nothing") == f"{path}:16:"
    assert inventory.locate("bee", "vm", "image", "deeper") == f"{path}:9:"
    assert inventory.locate("bee", "nothing") == f"{path}:3:"
    path.write_text("vm: [")
    assert inventory.locate("bee", "vm") == f"{path}:1:"
    path.unlink()
    assert inventory.locate("bee", "vm") == f"{path}:1:"


@pytest.mark.parametrize("address", ["fe80::1%eth0", "fe80::1%h\n    ProxyCommand touch here", "::1% -v"])
def test_a_machine_s_address_is_nothing_else(dirs: Dirs, address: str) -> None:
    """An IPv6 address with a zone is refused: the zone may be any text, and would get into ssh's configuration."""
    text = f"hypervisor: {{uri: none}}\nmachine: {{address: {json.dumps(address)}, hostname: claw}}\n"
    (dirs.hosts / "claw.yaml").write_text(text, encoding="utf-8")
    with refused() as error:
        inventory.load("claw")
    assert "machine.address: expected an IP address or a DNS name" in error[0]


def test_a_broken_file_is_listed_with_its_error(dirs: Dirs, capsys: pytest.CaptureFixture[str]) -> None:
    """`hosts --json` has an item for a file that can't be read, with its error, and the exit code says so."""
    write(dirs, "ant")
    write(dirs, "cow")
    assert hosts(as_json=True) == 0
    good = json.loads(capsys.readouterr().out)
    (dirs.hosts / "bee.yaml").write_text("vm: 7\n", encoding="utf-8")
    assert hosts(as_json=True) == 1
    ant, bee, cow = json.loads(capsys.readouterr().out)
    assert [ant, cow] == good
    assert bee.keys() == {"name", "error"}
    assert bee["name"] == "bee"
    assert "bee.yaml:1:" in bee["error"]["message"]
    assert bee["error"].keys() == {"message", "hint"}
