"""`inv restore --path` with every form of a path, over a real sshd that stands for a machine of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from swarm.commands import restore
from tests.claw import STATE, claw
from tests.sshd import USER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.ssh.guest import Guest
    from tests.conftest import Dirs

pytestmark = pytest.mark.skipif(USER != "root", reason="the test's sshd lets only root in as root")

NAMES = ("notes.md", "one, two.md", " blank ", "agents/main/a,b/c.md")


@pytest.fixture
def guest(dirs: Dirs) -> Iterator[Guest]:
    """A machine with an empty state directory, its host file claw and a mirror."""
    with claw(dirs, dirs.state / "sshd") as made:
        mirror = dirs.mirrors / "claw"
        for name in ("openclaw.json", *NAMES):
            (mirror / name).parent.mkdir(parents=True, exist_ok=True)
            (mirror / name).write_text(name, encoding="utf-8")
        # Only the server sees this: it has mounts of its own.
        made.check(f"mount -t tmpfs none /home && mkdir -p {STATE} && chown -R 1501:1501 /home/claw", "home")
        yield made


def restored(guest: Guest) -> set[str]:
    """Return the names of the files in the state directory."""
    return set(guest.check(f"cd {STATE} && find . -type f -printf '%P\\0'", "find").split("\0")) - {""}


@pytest.mark.slow
def test_a_path_is_found_in_whatever_form(guest: Guest) -> None:
    """Absolute and relative paths, names with commas and outer blanks, and lists of them, restore just these files."""
    forms = {
        f"{STATE}/agents/main/a,b/": {"agents/main/a,b/c.md"},
        f"notes.md, one, two.md,{STATE}/ blank ": {"notes.md", "one, two.md", " blank "},
    }
    for path, names in forms.items():
        assert restore.restore("claw", path=path, yes=True) == 0
        assert restored(guest) == names
        guest.check(f"rm -rf {STATE}/*", "removing the files")


def test_a_path_that_is_not_in_the_backup_is_named(guest: Guest, capsys: pytest.CaptureFixture[str]) -> None:
    """One unknown path of several ends the restore, and nothing has changed."""
    unknown = {
        "notes.md,nothing": "nothing is not",
        "/etc/passwd": "/etc/passwd is not",
        " , ": "names no file",
    }
    for path, words in unknown.items():
        assert restore.restore("claw", path=path, yes=True) != 0
        assert words in capsys.readouterr().err
    assert restored(guest) == set()
