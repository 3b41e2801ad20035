"""What its owner may not read in the guest, when the user who runs swarm is not root."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from swarm.backup.catalog import Catalog
from swarm.inventory import load
from swarm.paths import ROOT
from tests.claw import STATE, claw
from tests.sshd import USER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from swarm.ssh.guest import Guest
    from tests.conftest import Dirs

pytestmark = pytest.mark.skipif(USER != "root", reason="only root can become another user")

_USER = 65534
_CLOSED = {
    "closed": 0o000,
    "closed/in": 0o755,
    "listed": 0o644,
    "none": 0o000,
    "twin": 0o000,
    "written": 0o220,
}
_MAKE = f"""set -e
mount -t tmpfs none /home && mkdir -p {STATE}/closed/in {STATE}/listed && cd {STATE}
echo '{{"gateway": {{}}}}' >openclaw.json
for name in none written closed/in/file listed/file; do echo "$name" >"$name"; done
ln none twin
chmod 000 none closed && chmod 220 written && chmod 644 listed
chown -R 1501:1501 /home/claw
"""
_MODES = f"cd {STATE} && stat -c '%n %a' closed closed/in listed none twin written && cat none closed/in/file"


@pytest.fixture
def guest(dirs: Dirs, tmp_path: Path) -> Iterator[Guest]:
    """A machine whose state directory has such files, and its host file claw, which belongs to an ordinary user."""
    with claw(dirs, tmp_path / "sshd") as made:
        made.check(_MAKE, "the state directory")
        made.close()
        base = dirs.hosts.parent
        for path in (base, *base.rglob("*")):
            os.chown(path, _USER, _USER, follow_symlinks=False)
        yield made


def inv(dirs: Dirs, *words: str) -> str:
    """Run a command as the ordinary user. Return what it prints."""
    become = ("setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups")
    done = subprocess.run(
        [*become, sys.executable, "-P", str(ROOT / "swarm" / "__main__.py"), *words],
        env={**os.environ, "HOME": str(dirs.hosts.parent), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_what_its_owner_may_not_read_is_backed_up_and_restored(guest: Guest, dirs: Dirs) -> None:
    """Files and directories without rights for their owner come back with their content and modes, run after run."""
    inv(dirs, "backup", "--host", "claw")
    guest.check(f"echo more >>{STATE}/none; echo more >>{STATE}/closed/in/file", "a change")
    before = guest.check(_MODES, "the modes")
    inv(dirs, "backup", "--host", "claw")
    assert "nothing" in inv(dirs, "backup", "--host", "claw", "--plan")
    catalog = Catalog("claw", load("claw").backup)
    manifest = catalog.manifest(*catalog.find())
    assert {path: manifest.files[path].mode for path in _CLOSED} == _CLOSED
    for origin in ((), ("--archive", "latest")):
        guest.check(f"cd {STATE} && chmod 700 closed && rm -r closed none && echo new >twin", "a loss")
        inv(dirs, "restore", "--host", "claw", "--yes", *origin)
        assert guest.check(_MODES, "the modes") == before
