"""Changing the address in a host file keeps everything else in it."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from swarm.errors import InventoryError
from swarm.inventory.edit import set_ip
from tests import samples

if TYPE_CHECKING:
    from pathlib import Path


def test_only_the_address_changes() -> None:
    """One line of the file differs. Comments, order, quotes and indentation are kept."""
    path = samples.write()
    before = path.read_text(encoding="utf-8")
    host = set_ip("zap", "192.168.122.50")
    assert str(host.vm.ip) == "192.168.122.50"
    after = path.read_text(encoding="utf-8")
    changed = [
        pair for pair in zip(before.splitlines(), after.splitlines(), strict=True) if pair[0] != pair[1]
    ]
    assert changed == [("  ip: 192.168.122.182", "  ip: 192.168.122.50")]


def test_comments_stay_where_they_are() -> None:
    """A comment behind the address and one of its own are both kept."""
    path = samples.write()
    text = path.read_text(encoding="utf-8")
    text = text.replace("  ip: 192.168.122.182\n", "  # moved in May\n  ip: 192.168.122.182  # reserved\n")
    path.write_text(text, encoding="utf-8")
    set_ip("zap", "192.168.122.50")
    expected = text.replace("  ip: 192.168.122.182  # reserved", "  ip: 192.168.122.50  # reserved")
    assert path.read_text(encoding="utf-8").split() == expected.split()


@pytest.mark.parametrize("head", ["# zap\n\n---\n", "---\n# zap\n", "%YAML 1.2\n# zap\n--- # begin\n"])
def test_what_stands_before_the_document_is_kept(head: str) -> None:
    """The line --- and the comments before it are kept, such as the one that tells an editor the schema."""
    path = samples.write()
    text = head + path.read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    set_ip("zap", "192.168.122.50")
    assert path.read_text(encoding="utf-8") == text.replace("ip: 192.168.122.182", "ip: 192.168.122.50")


@pytest.mark.parametrize("address", ["192.168.122", "127.0.0.1", "nonsense"])
def test_an_invalid_address_changes_nothing(address: str) -> None:
    """An address that no guest can have is refused, and the file is as before."""
    path = samples.write()
    before = path.read_bytes()
    with pytest.raises(InventoryError, match=r"vm\.ip"):
        set_ip("zap", address)
    assert path.read_bytes() == before


def test_the_same_address_changes_nothing() -> None:
    """The address that the file has already is not written again."""
    path = samples.write()
    before = path.stat().st_mtime_ns
    set_ip("zap", "192.168.122.182")
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("address", ["192.168.122.50", "nonsense"])
def test_a_link_stays_a_link(tmp_path: Path, address: str) -> None:
    """Where the host file is a link, as into another repository, what it leads to is changed, or left as it is."""
    path, target = samples.write(), tmp_path / "real.yaml"
    path.rename(target)
    path.symlink_to(target)
    before = target.read_text(encoding="utf-8")
    with nullcontext() if address != "nonsense" else pytest.raises(InventoryError):
        set_ip("zap", address)
    assert path.is_symlink()
    assert (target.read_text(encoding="utf-8") == before) is (address == "nonsense")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write another user's file")
def test_root_leaves_the_file_to_its_owner() -> None:
    """With sudo, the host file stays the user's, who could not edit it otherwise."""
    path = samples.write()
    os.chown(path, 65534, 65534)
    set_ip("zap", "192.168.122.50")
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65534)
