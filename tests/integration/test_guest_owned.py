"""Files of any owner, written by a real sh as root: no other user's link leads root anywhere."""

from __future__ import annotations

import os
import pwd
import subprocess
from typing import TYPE_CHECKING

import pytest

from swarm.guest.engine.script import as_user, prelude
from swarm.guest.kinds.edits import user_block
from swarm.guest.kinds.owned import owned_file
from swarm.text import quote

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.guest.engine.step import Step

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="files are written as another user")

USER = "games"  # a user of every Debian, with a group of the same name and an existing home


def run(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script as the engine does."""
    start = f'swarm_prelude={quote(prelude())}\neval "$swarm_prelude"\nset -eu\n'
    return subprocess.run(["sh"], input=start + script, capture_output=True, text=True, check=False)


def fact(step: Step) -> str:
    """What a step's probe finds."""
    return run(step.probe).stdout.rstrip("\n")


def apply(step: Step) -> subprocess.CompletedProcess[str]:
    """Observe, and make the change."""
    script = step.apply(fact(step))
    assert script is not None
    return run(script)


def owner(path: Path) -> str:
    """The user and mode of a file."""
    state = path.lstat()
    return f"{pwd.getpwuid(state.st_uid).pw_name} {state.st_mode & 0o777:o}"


@pytest.fixture
def place(base: Path) -> Path:
    """A folder of root's that everybody may enter."""
    path = base / f"owned{sum(1 for _ in base.iterdir())}"
    path.mkdir()
    path.chmod(0o755)
    return path


@pytest.fixture
def home(place: Path) -> Path:
    """A folder of the user's."""
    path = place / "home"
    path.mkdir()
    path.chmod(0o755)
    os.chown(path, pwd.getpwnam(USER).pw_uid, pwd.getpwnam(USER).pw_gid)
    return path


def link(path: Path, target: str | Path) -> None:
    """Make a link that belongs to the user."""
    path.symlink_to(target)
    os.lchown(path, pwd.getpwnam(USER).pw_uid, pwd.getpwnam(USER).pw_gid)


def test_in_a_home_everything_belongs_to_the_user(home: Path) -> None:
    """The file and the folders that were missing belong to its owner, and a second run finds nothing to do."""
    step = owned_file(f"{home}/a b/c/it's", "hello\n", mode="600", owner=USER)
    assert apply(step).returncode == 0
    assert [owner(home / name) for name in ("a b", "a b/c", "a b/c/it's")] == [
        f"{USER} 755",
        f"{USER} 755",
        f"{USER} 600",
    ]
    assert step.apply(fact(step)) is None


def test_a_users_link_leads_root_nowhere(home: Path, place: Path) -> None:
    """A link to a file or a folder of root's is followed with the user's rights, so nothing is shown or written."""
    secret = place / "secret"
    secret.write_text("precious\n")
    secret.chmod(0o600)
    folder = place / "private"
    folder.mkdir()
    folder.chmod(0o700)
    link(home / "file", secret)
    link(home / "folder", folder)
    for name in ("file", "folder/new"):
        step = owned_file(f"{home}/{name}", "mine\n", owner=USER)
        assert "precious" not in fact(step)
        done = apply(step)
        assert done.returncode != 0
        assert "Permission denied" in done.stderr
    assert (secret.read_text(), list(folder.iterdir())) == ("precious\n", [])


def test_a_block_goes_where_a_users_link_leads(home: Path, place: Path) -> None:
    """A .bashrc that is a link stays one, and the user's file that it leads to gets the block; root's is refused."""
    assert apply(owned_file(f"{home}/dots/rc", "alias x=y\n", mode="640", owner=USER)).returncode == 0
    link(home / ".bashrc", "dots/rc")
    step = user_block(USER, f"{home}/.bashrc", "own", "export A=1")
    found = run(as_user(USER, step.probe)).stdout.removesuffix("\n")
    assert step.refuse(found) is None
    script = step.apply(found)
    assert script is not None
    assert run(script).returncode == 0
    assert (home / ".bashrc").is_symlink()
    text = "# BEGIN swarm own\nexport A=1\n# END swarm own\nalias x=y\n"
    assert ((home / "dots/rc").read_text(), owner(home / "dots/rc")) == (text, f"{USER} 640")
    assert step.apply(run(as_user(USER, step.probe)).stdout.removesuffix("\n")) is None
    (place / "rc").write_text("echo root's\n")
    (home / ".bashrc").unlink()
    link(home / ".bashrc", place / "rc")
    found = run(as_user(USER, step.probe)).stdout.removesuffix("\n")
    assert step.refuse(found) == f"{home}/.bashrc belongs to root, or leads to a file that does"


def test_a_users_own_link_stays(home: Path) -> None:
    """A link to another file of the user's, such as one kept in git, stays, and the file that it leads to changes."""
    assert apply(owned_file(f"{home}/dots/rc", "old\n", owner=USER)).returncode == 0
    link(home / "rc", "dots/rc")
    step = owned_file(f"{home}/rc", "new\n", owner=USER)
    assert fact(step).endswith("\nold")
    assert apply(step).returncode == 0
    assert ((home / "rc").is_symlink(), (home / "dots" / "rc").read_text()) == (True, "new\n")
    assert step.apply(fact(step)) is None


def test_in_a_place_of_roots_root_writes(place: Path) -> None:
    """A file that a user owns may be in a folder where that user may not write, such as /etc."""
    step = owned_file(f"{place}/new/settings", "x\n", mode="600", owner=USER)
    assert apply(step).returncode == 0
    assert [owner(place / name) for name in ("new", "new/settings")] == ["root 755", f"{USER} 600"]
    assert step.apply(fact(step)) is None
    (place / "etc").symlink_to("new")  # a link of root's
    assert owned_file(f"{place}/etc/settings", "x\n", mode="600", owner=USER).apply(fact(step)) is None


@pytest.mark.parametrize("how", ["home", "link", "writable", "group"])
def test_root_does_not_write_where_others_decide(home: Path, place: Path, how: str) -> None:
    """A file of root's is refused in a user's folder, behind a user's link, and where others may write."""
    folder = {"home": home, "link": place / "through"}.get(how, place / "shared")
    if how == "link":
        link(folder, "/etc")
    elif how != "home":
        folder.mkdir()
        folder.chmod(0o777 if how == "writable" else 0o775)
        os.chown(folder, 0, pwd.getpwnam(USER).pw_gid)
    step = owned_file(f"{folder}/file", "x\n")
    refused = step.refuse(fact(step))
    assert refused
    assert f"a user other than root decides where {folder} leads" in refused


def test_root_writes_in_its_own_folders(place: Path) -> None:
    """Missing folders are made, and a link of root's to a folder of root's is no obstacle."""
    (place / "real").mkdir()
    (place / "etc").symlink_to(place / "real")
    step = owned_file(f"{place}/etc/new/file", "x\n")
    assert step.refuse(fact(step)) is None
    assert apply(step).returncode == 0
    assert (place / "real" / "new" / "file").read_text() == "x\n"
    assert step.apply(fact(step)) is None
    (place / "loop").symlink_to("loop")
    assert owned_file(f"{place}/loop/file", "x\n").refuse(fact(owned_file(f"{place}/loop/file", "x\n")))
