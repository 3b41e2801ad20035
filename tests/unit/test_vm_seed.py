"""The seed that cloud-init reads at the first boot: an ISO with the right label, and files that mean what was given."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pycdlib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from swarm import ssh
from swarm.inventory import load
from swarm.vm import desired, seed
from swarm.vm.observe import seed_of
from tests.samples import variant

if TYPE_CHECKING:
    from pathlib import Path

ZAP = load("zap")
KEY = ssh.keypair("zap")


def read(image: bytes) -> dict[str, dict[str, str]]:
    """Return the files of an ISO by name, once as Joliet and once as Rock Ridge has them."""
    disc = pycdlib.PyCdlib()
    disc.open_fp(io.BytesIO(image))
    found: dict[str, dict[str, str]] = {}
    for kind in ("joliet_path", "rr_path"):
        found[kind] = {}
        for entry in disc.list_children(**{kind: "/"}):
            name = (
                entry.file_identifier().decode("utf-16-be")
                if kind == "joliet_path"
                else entry.rock_ridge.name().decode()
            )
            if entry.is_file():
                content = io.BytesIO()
                disc.get_file_from_iso_fp(content, **{kind: f"/{name}"})
                found[kind][name] = content.getvalue().decode()
    disc.close()
    return found


def yaml(text: str) -> Any:  # noqa: ANN401 - any YAML
    """Read YAML as cloud-init does: no tags, no duplicate keys."""
    return YAML(typ="safe", pure=True).load(text)


def files(*keys: str, has_agent: bool = True, **vm: Any) -> dict[str, str]:
    """Return the seed's files for zap with other values."""
    return seed.seed_files(variant(ZAP, **vm), "instance-1", KEY, keys, has_agent=has_agent)


def test_the_image_holds_the_files_under_their_names() -> None:
    """Both kinds of names that a guest's kernel may go by lead to exactly what was put in."""
    given_files = files("ssh-ed25519 AAAA me")
    assert read(seed.iso(given_files)) == {"joliet_path": given_files, "rr_path": given_files}


@settings(max_examples=20, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z-]{0,20}", fullmatch=True), st.text(max_size=5000), min_size=1, max_size=4
    )
)
def test_any_content_comes_back(content: dict[str, str]) -> None:
    """What goes in comes out, whatever its length."""
    assert read(seed.iso(content)) == {"joliet_path": content, "rr_path": content}


def test_the_label_is_the_one_that_cloud_init_looks_for(tmp_path: Path) -> None:
    """The system's own blkid, which cloud-init asks, sees an ISO 9660 file system called CIDATA."""
    blkid = shutil.which("blkid", path="/usr/sbin:/sbin:/usr/bin")
    if blkid is None:
        pytest.skip("no blkid on this machine")
    path = tmp_path / "seed.iso"
    path.write_bytes(seed.iso({"meta-data": "x"}))
    data = subprocess.run(
        [blkid, "-p", "-o", "export", path], check=True, capture_output=True, text=True
    ).stdout
    assert {"LABEL=CIDATA", "TYPE=iso9660"} <= set(data.splitlines())


def test_user_data_means_what_was_given() -> None:
    """The guest gets its name, the host key that was pinned, and both users with the keys that may log in."""
    text = files("ssh-ed25519 AAAA me", "ssh-rsa BBBB you")["user-data"]
    assert text.startswith("#cloud-config\n")
    keys = ["ssh-ed25519 AAAA me", "ssh-rsa BBBB you"]
    data = yaml(text)
    wanted = {
        "hostname": "zap",
        "manage_etc_hosts": True,
        "disable_root": False,
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": KEY[0], "ed25519_public": KEY[1]},
        "users": [
            {"name": "root", "lock_passwd": True, "ssh_authorized_keys": keys},
            {
                "name": "openclaw",
                "gecos": "OpenClaw",
                "shell": "/bin/bash",
                "lock_passwd": True,
                "ssh_authorized_keys": keys,
            },
        ],
        "mounts": [["swarm", "/mnt/swarm", "virtiofs", "defaults,nofail", "0", "0"]],
    }
    assert {key: data[key] for key in wanted} == wanted
    written = {entry["path"]: entry["content"] for entry in data["write_files"]}
    assert "PasswordAuthentication no\n" in written["/etc/ssh/sshd_config.d/10-swarm.conf"]


def test_an_image_without_the_agent_gets_it() -> None:
    """An image without the guest agent installs it at the first boot. Without a share nothing is mounted."""
    data = yaml(files(has_agent=False, virtiofs=None)["user-data"])
    assert data["packages"] == ["qemu-guest-agent"]
    assert "mounts" not in data


def test_network_and_meta_data() -> None:
    """The interface is found by its MAC, whatever its name in the guest, and uses DHCP."""
    data = files()
    assert yaml(data["network-config"]) == {
        "version": 2,
        "ethernets": {"nic0": {"match": {"macaddress": ZAP.vm.mac}, "dhcp4": True, "dhcp6": False}},
    }
    assert yaml(data["meta-data"]) == {"instance-id": "instance-1", "local-hostname": "zap"}


printable = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Co", "Cn", "Zl", "Zp"))
    | st.sampled_from("'\"{}[]&*#:!|>%@`\\🦞é"),
    max_size=30,
)


@settings(deadline=None, max_examples=30)
@given(
    comments=st.lists(printable, max_size=3),
    hostname=st.sampled_from(("no", "1e3", "null", "zap", "0x10")),
    tag=st.sampled_from(("a", "no")),
)
def test_user_data_means_the_same_for_any_allowed_value(comments: list[str], hostname: str, tag: str) -> None:
    """Key comments may be any text, and names like "no" or "1e3" stay text in YAML."""
    keys = [f"ssh-ed25519 AAAA {comment}" for comment in comments]
    share = {"source": "/x", "tag": tag, "target": '/mnt/"{{x}}"'}
    data = yaml(files(*keys, hostname=hostname, virtiofs=share)["user-data"])
    assert data["hostname"] == hostname
    assert [user["ssh_authorized_keys"] for user in data["users"]] == [keys, keys]
    assert data["mounts"][0][:2] == [tag, '/mnt/"{{x}}"']
    json.dumps(data, ensure_ascii=False).encode()  # half a character could not be written to any file


def test_the_seeds_disk_is_what_the_domain_has() -> None:
    """The device that is taken out after the first boot is the one that was put in, whatever its path."""
    path = "/pool/a'b\"<c>&.iso"
    assert "vdb" in seed.device_xml(path)
    source = ET.fromstring(seed.device_xml(path)).find("source")
    assert source is not None
    assert source.get("file") == path


def test_first_boot_is_known_by_the_seed() -> None:
    """A domain's definition tells whether its first boot is over: the seed is in it until then."""
    path = f"/var/lib/libvirt/images/{desired.seed_volume(ZAP)}"
    assert seed_of(desired.domain_xml(ZAP, "qemu", path)) == path
    assert seed_of(desired.domain_xml(ZAP, "qemu", None)) is None
