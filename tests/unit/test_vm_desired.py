"""What a host file asks of libvirt: well-formed, exact, and the same whenever it is asked."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from pydantic import ValidationError

from swarm.hypervisor.domain import NAMESPACE
from swarm.inventory import Host, load
from swarm.vm import desired
from swarm.vm.desired import Note
from swarm.vm.pin import fingerprint
from tests.samples import variant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ZAP = load("zap")

# Any text, but with plenty of what XML, libvirt and shells give a meaning of their own.
ODD = st.sampled_from("<>&'\"%${}[]()#;|\\` ~=:é→🦞")
some_text = st.text(ODD | st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=40)
NO_CONTROL = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff")


def host_with(**vm: Any) -> Host:
    """Return a host with these values, or reject the example if a host file may not have them."""
    try:
        return variant(ZAP, **vm)
    except ValidationError:
        reject()


def one(root: ET.Element, path: str) -> ET.Element:
    """Return the only element at `path`."""
    (element,) = root.findall(path)
    return element


@given(name=some_text)
def test_any_domain_name_arrives_unchanged(name: str) -> None:
    """Every name that a host file may give is in the domain's XML unchanged."""
    root = ET.fromstring(desired.domain_xml(host_with(domain=name), "qemu", None))
    assert one(root, "name").text == name


@given(disk=some_text, share=some_text, seed=some_text)
def test_any_path_arrives_unchanged(disk: str, share: str, seed: str) -> None:
    """Paths with XML's special characters are escaped, and the console log is beside the disk."""
    folder = {"source": f"/{share}", "tag": "swarm", "target": "/mnt/swarm"}
    host = host_with(disk_path=f"/{disk}/x.qcow2", virtiofs=folder)
    root = ET.fromstring(desired.domain_xml(host, "qemu", seed))
    assert one(root, "devices/disk[1]/source").get("file") == str(host.vm.disk_path)
    assert one(root, "devices/disk[2]/source").get("file") == seed
    assert host.vm.virtiofs
    assert one(root, "devices/filesystem/source").get("dir") == str(host.vm.virtiofs.source)
    assert one(root, "devices/serial/log").get("file") == str(
        host.vm.disk_path.parent / "swarm-zap-console.log"
    )


@given(name=some_text)
def test_any_network_name_arrives_unchanged(name: str) -> None:
    """The network's name is escaped in the network's XML as in the domain's."""
    assert one(ET.fromstring(desired.network_xml(name)), "name").text == name


@pytest.mark.parametrize(
    ("name", "ip", "subnet"),
    [
        ("default", "192.168.122.9", "192.168.122.0/24"),
        ("default", "10.1.2.3", "192.168.122.0/24"),
        ("lab", "192.168.122.9", "192.168.122.0/24"),
        ("lab", "10.1.2.3", "10.1.2.0/24"),
        ("lab", "172.16.0.5", "172.16.0.0/24"),
        ("lab", "8.8.8.8", "192.168.122.0/24"),
    ],
)
def test_a_network_is_made_around_the_address(name: str, ip: str, subnet: str) -> None:
    """A network beside "default" has the addresses of its first host, if they are private, and no fixed bridge."""
    root = ET.fromstring(desired.network_xml(name, IPv4Address(ip)))
    network = IPv4Network(subnet)
    assert (one(root, "ip").get("address"), one(root, "ip").get("netmask")) == (
        str(network[1]),
        "255.255.255.0",
    )
    dynamic = one(root, "ip/dhcp/range")
    assert (dynamic.get("start"), dynamic.get("end")) == (str(network[2]), str(network[254]))
    assert one(root, "bridge").get("name") is None


def test_the_seed_and_the_share_are_there_only_when_asked_for() -> None:
    """After the first boot the domain has one disk; without a share it has no file system."""
    root = ET.fromstring(desired.domain_xml(variant(ZAP, virtiofs=None), "qemu", None))
    assert [target.get("dev") for target in root.findall("devices/disk/target")] == ["vda"]
    assert root.findall("devices/filesystem") == []


@pytest.mark.parametrize(("kind", "mode"), [("kvm", "host-passthrough"), ("qemu", "custom")])
def test_the_processor_goes_with_the_kind(kind: str, mode: str) -> None:
    """A KVM guest gets the real processor, an emulated one the model that boots fastest."""
    root = ET.fromstring(desired.domain_xml(ZAP, kind, None))
    assert (root.get("type"), one(root, "cpu").get("mode")) == (kind, mode)


def test_what_every_domain_promises() -> None:
    """A domain has Secure Boot, TPM 2.0, shared memory, watchdog and agent, and the host file's sizes."""
    root = ET.fromstring(desired.domain_xml(ZAP, "kvm", None))
    features = {
        feature.get("name"): feature.get("enabled") for feature in root.findall("os/firmware/feature")
    }
    assert features == {"enrolled-keys": "yes", "secure-boot": "yes"}
    assert one(root, "os").get("firmware") == "efi"
    assert one(root, "features/smm").get("state") == "on"
    assert (one(root, "devices/tpm").get("model"), one(root, "devices/tpm/backend").get("version")) == (
        "tpm-crb",
        "2.0",
    )
    assert (one(root, "memoryBacking/source").get("type"), one(root, "memoryBacking/access").get("mode")) == (
        "memfd",
        "shared",
    )
    assert (one(root, "devices/watchdog").get("model"), one(root, "devices/watchdog").get("action")) == (
        "i6300esb",
        "reset",
    )
    assert one(root, "devices/channel/target").get("name") == "org.qemu.guest_agent.0"
    assert (one(root, "memory").text, one(root, "memory").get("unit"), one(root, "vcpu").text) == (
        "3072",
        "MiB",
        "2",
    )
    assert one(root, "devices/interface/mac").get("address") == "52:54:00:01:00:71"


def test_the_uuid_is_the_hosts_for_good() -> None:
    """A domain's UUID is derived from the host's name alone, so that two control machines agree on it."""
    assert desired.domain_uuid(ZAP) == "fbfc6658-9bf8-5ef8-a375-0ed5c8ed65de"
    assert desired.domain_uuid(variant(ZAP, domain="other", memory_mib=512)) == desired.domain_uuid(ZAP)
    assert desired.domain_uuid(variant(ZAP, name="bee")) != desired.domain_uuid(ZAP)


@given(name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,20}", fullmatch=True), size=st.integers(0, 1 << 50))
def test_a_base_volumes_name_states_its_size(name: str, size: int) -> None:
    """A base volume's name states the size of the complete volume."""
    volume = desired.base_volume(name, "0123456789abcdef" * 4, size)
    assert volume.startswith(f"{desired.BASE_PREFIX}{name}-0123456789abcdef-")
    assert desired.base_volume_size(volume) == size


@pytest.mark.parametrize(
    "name",
    [
        "zap.qcow2",
        "swarm-zap-seed.iso",
        "swarm-base-x.qcow2",
        "other-base-x-17.qcow2",
        "swarm-base-x-.qcow2",
        "",
    ],
)
def test_other_volumes_state_no_size(name: str) -> None:
    """The name of a volume that is no base image states no size."""
    assert desired.base_volume_size(name) is None


def namespaced(note: str) -> Iterator[str]:
    """Yield the note by itself, and as libvirt returns it from a definition."""
    yield note
    root = ET.fromstring(f"<metadata>{note}</metadata>")
    yield ET.tostring(root[0], encoding="unicode")


texts = st.text(NO_CONTROL | st.sampled_from("\n\t"), max_size=20)


@given(texts, texts, texts, texts, st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=4))
def test_a_note_comes_back_as_it_was_written(
    host: str, kind: str, key: str, image: str, spec: dict[str, str]
) -> None:
    """Whatever text a note holds, XML gives it back, by itself and inside a definition."""
    note = Note(host, kind, key, image, spec, {"x": "y"}, disk=f"/pool/{host}")
    for xml in (note.to_xml(), *namespaced(note.to_xml(namespace=True))):
        assert Note.from_xml(xml) == note
    assert ET.fromstring(note.to_xml(namespace=True)).tag == f"{{{NAMESPACE}}}state"


def test_a_note_without_most_attributes() -> None:
    """A note without most of its attributes is read with empty values."""
    assert Note.from_xml("<state host='zap'/>") == Note("zap", "", "", "")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", "null", '{"vcpu": 7}', '{"vcpu": ["a"]}', "[" * 100_000]
)
def test_a_damaged_note_leaves_out_the_hashes(text: str) -> None:
    """Damaged hashes in a note count as missing ones, and the rest of the note is read."""
    note = Note("zap", "qemu", "key", "image", {"a": "1"}, {"a": "2"})
    root = ET.fromstring(note.to_xml())
    root.set("have", text)
    assert Note.from_xml(ET.tostring(root, encoding="unicode")) == replace(note, have={})
    root.set("spec", text)
    assert Note.from_xml(ET.tostring(root, encoding="unicode")) == replace(note, spec={}, have={})


def test_the_files_beside_the_disk_have_the_hosts_name() -> None:
    """Two hosts in one pool never share a seed or a console log."""
    bee = variant(ZAP, name="bee")
    assert (desired.seed_volume(ZAP), desired.console_volume(ZAP)) == (
        "swarm-zap-seed.iso",
        "swarm-zap-console.log",
    )
    assert desired.seed_volume(bee) != desired.seed_volume(ZAP)
    assert ZAP.vm.disk_path.parent == PurePosixPath("/var/lib/libvirt/images")


def test_fingerprint(tmp_path: Path) -> None:
    """A key's fingerprint is the one that ssh-keygen shows; a damaged pin has none, and is no reason to fail."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    shown = subprocess.run(
        ["ssh-keygen", "-lf", tmp_path / "key"], check=True, capture_output=True, text=True
    ).stdout
    assert fingerprint((tmp_path / "key.pub").read_text()) == shown.split()[1]
    assert [fingerprint(text) for text in ("", "ssh-ed25519", "ssh-ed25519 !!")] == ["unreadable"] * 3
