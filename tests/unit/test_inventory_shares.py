"""A guest writes into its share with any owner and mode, so some folders are never shared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm.inventory.shares import unfit_share
from swarm.paths import ROOT, shares_dir, state_dir
from swarm.vm.share import share_problem
from tests import samples

if TYPE_CHECKING:
    from tests.conftest import Dirs


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory."""
    monkeypatch.setenv("HOME", str(tmp_path / "ann"))
    (tmp_path / "ann").mkdir()
    return tmp_path / "ann"


@pytest.mark.parametrize(
    "folder", ["/", "/etc", "/etc/ssh", "/root", "/usr/local", "/proc/1", "/opt", "/var/lib"]
)
def test_folders_of_the_system(folder: str) -> None:
    """A folder of the system is refused, on this machine and on another hypervisor."""
    for here in (True, False):
        assert unfit_share(Path(folder), here=here) == f"{folder} is a folder of the system"


def test_homes_and_what_is_private_in_them(home: Path) -> None:
    """A home, what holds homes, and the folders of keys and settings are refused; a folder of one's own is not."""
    for folder in (home, home.parent):
        assert "holds your home directory" in unfit_share(folder, here=True)
    for name in (".ssh", ".aws/cli", ".config"):
        assert "holds keys or settings" in unfit_share(home / name, here=True)
    assert unfit_share(home / "lab" / "share", here=True) == ""
    assert unfit_share(home, here=False) == ""  # another machine's folder of that name


def test_a_link_is_followed(home: Path) -> None:
    """A link to a folder that may not be shared is refused, and the message names where it leads."""
    (home / "innocent").symlink_to("/etc")
    assert (
        unfit_share(home / "innocent", here=True) == f"{home}/innocent leads to /etc, a folder of the system"
    )


def test_a_loop_of_links_leads_nowhere(home: Path) -> None:
    """Links that lead to each other are a folder that does not exist, as is seen when the VM is to start."""
    (home / "one").symlink_to(home / "two")
    (home / "two").symlink_to(home / "one")
    assert unfit_share(home / "one", here=True) == ""
    assert share_problem(samples.host(source=str(home / "one")), None) == f"{home}/one does not exist"


@pytest.mark.usefixtures("home")
def test_folders_of_swarm(dirs: Dirs) -> None:
    """Swarm's state, host files, mirrors and the project are refused; the shares in its state are not."""
    state = (state_dir(), state_dir() / "backup", shares_dir(), shares_dir() / ".." / "ssh")
    for folder in (*state, dirs.hosts, dirs.mirrors / "zap", ROOT, ROOT.parent, ROOT / "share"):
        assert unfit_share(folder, here=True)
    assert unfit_share(shares_dir() / "demo", here=True) == ""
