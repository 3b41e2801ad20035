"""The shared folder: swarm makes its own, and names what is wrong with others."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm.hypervisor.connection import Libvirt
from swarm.paths import shares_dir
from swarm.vm.places import disks, share
from swarm.vm.share import make_share, open_to_others, share_problem
from tests import samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Dirs


@pytest.fixture
def lab() -> Iterator[Libvirt]:
    """Libvirt's test driver, which is on this machine."""
    with Libvirt("test:///default") as connection:
        yield connection


@pytest.mark.parametrize("umask", [0o000, 0o077])
@pytest.mark.usefixtures("dirs")
def test_a_relative_share_is_made_where_only_its_owner_comes(lab: Libvirt, umask: int) -> None:
    """It is made at the start of the VM, for the guest's users to read, below a folder that is private."""
    host = samples.host(uri="test:///default", source="my/zap")
    folder = shares_dir() / "my" / "zap"
    assert share_problem(host, lab) is None
    assert not folder.exists()
    before = os.umask(umask)
    try:
        make_share(host, lab)
        make_share(host, lab)
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (folder, shares_dir())] == [0o755, 0o700]
    assert not open_to_others(host, lab)


@pytest.mark.usefixtures("dirs")
def test_hosts_side_by_side_make_one_share(lab: Libvirt, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two hosts that make one share at the same moment, neither fails."""
    host = samples.host(uri="test:///default", source="common")
    (shares_dir() / "common").mkdir(parents=True)
    monkeypatch.setattr(Path, "exists", lambda _: False)
    make_share(host, lab)
    assert (shares_dir() / "common").is_dir()


@pytest.mark.usefixtures("dirs")
def test_another_folder_is_never_made(lab: Libvirt, tmp_path: Path) -> None:
    """A share of the user's own that is missing is a problem, because its path may be misspelled."""
    host = samples.host(uri="test:///default", source=str(tmp_path / "misspelled"))
    make_share(host, lab)
    assert share_problem(host, lab) == share_problem(host, None) == f"{tmp_path}/misspelled does not exist"


def test_a_share_that_others_can_enter_is_told(lab: Libvirt, dirs: Dirs, base: Path) -> None:
    """A guest can put programs of root there, so one folder above must be closed to other users."""
    folder = base / "open" / "share"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o755)
    folder.chmod(0o755)
    host = samples.host(uri="test:///default", source=str(folder))
    assert dirs.hosts.is_dir()
    assert open_to_others(host, lab)
    folder.parent.chmod(0o700)
    assert not open_to_others(host, lab)


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Run the block as a user whom the permissions of folders stop."""
    before = os.geteuid()
    if not before:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_folder_that_cannot_be_entered_is_a_finding(lab: Libvirt, dirs: Dirs, base: Path) -> None:
    """A share and a disk in another user's private folder end no check: doctor names them and the folder."""
    closed = base / "closed"
    (closed / "lab").mkdir(parents=True)
    fields = {"source": str(closed / "lab"), "disk_path": str(closed / "lab" / "zap.qcow2")}
    host = samples.host(uri="test:///default", **fields)
    assert dirs.hosts.is_dir()
    closed.chmod(0o600)
    try:
        with ordinary_user():
            found = [*share(host, lab), *disks(host, lab)]
    finally:
        closed.chmod(0o700)
    problem = f"zap: the share {closed}/lab cannot be reached (Permission denied)"
    above = f"zap: QEMU's user cannot search {closed}, which is above {closed}/lab/zap.qcow2"
    assert [(each.level, each.what) for each in found] == [("failure", problem), ("failure", above)]
