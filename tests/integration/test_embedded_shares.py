"""In a share of swarm's own, a guest's owners are nobody on this machine. A program that plays virtiofsd tells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm.embedded.shares import FIRST_USER, NOBODYS, mapping, outside
from swarm.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Serve = Callable[..., str]

pytestmark = [pytest.mark.usefixtures("able"), pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

USER = 4321  # an ID that no account here has

# What a guest's root can make virtiofsd do, in the folder that it was given.
GUEST = """\
#!/bin/sh
for word; do case $word in *source=* | --shared-dir=*) folder=${word##*=} ;; /*) folder=$word ;; esac; done
cd "$folder" || exit 9
cp /bin/true of-root; chmod 4755 of-root
touch of-user; chown 1000:1000 of-user
touch of-other; chown 33:33 of-other
mknod device c 1 3
ls -ln > seen
"""

COVERED = """\
import sys
from pathlib import Path
from swarm.embedded import shares
shares.cover(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[2]))
"""


def apart(script: str, words: Iterable[object]) -> subprocess.CompletedProcess[str]:
    """Run a shell script, whose arguments are `words`, with mounts of its own."""
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", *map(str, words)]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def own(base: Path) -> Path:
    """A folder of the test's own, which every user can enter."""
    folder = base / f"s{sum(1 for _ in base.iterdir())}"
    folder.mkdir(mode=0o755)
    return folder


@pytest.fixture
def serve(own: Path) -> Serve:
    """Return a function that lets the guest loose on a folder, for a user's ID, as libvirt starts virtiofsd."""
    program = next(
        found["binary"]
        for found in map(json.loads, map(Path.read_text, Path("/usr/share/qemu/vhost-user").glob("*.json")))
        if found["type"] == "fs"
    )
    (own / "guest").write_text(GUEST)
    (own / "guest").chmod(0o755)

    def run(folder: Path, user: int, form: str = "-o source=") -> str:
        script = (
            "mkdir -p /run/libvirt && mount -t tmpfs -o mode=755 tmpfs /run/libvirt && "
            'mount --bind "$1" "$6" && "$2" -c "$3" "$4" "$5" && shift 5 && exec "$@"'
        )
        words = [own / "guest", sys.executable, COVERED, own / "hypervisor", user]
        words += [program, "--fd=0", *f"{form}{folder}".split(" ")]
        done = apart(script, words)
        assert done.returncode == 0, done.stderr
        return done.stderr

    return run


@pytest.fixture
def share(own: Path) -> Path:
    """A share of swarm's own, in a folder that only root enters."""
    folder = own / "shares" / "zap"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o700)
    return folder


def owner(path: Path) -> tuple[int, int]:
    """Return a file's owner and group."""
    found = path.lstat()
    return found.st_uid, found.st_gid


@pytest.mark.parametrize("form", ["-o source=", "-o cache=auto,source=", "--shared-dir ", "--shared-dir="])
def test_only_the_guests_first_user_is_somebody(serve: Serve, share: Path, form: str) -> None:
    """A program of the guest's root runs as nobody here, its user is swarm's, and it can make no device file."""
    os.chown(share, USER, USER)
    said = serve(share, USER, form)
    assert "mknod: device: Operation not permitted" in said
    assert not (share / "device").exists()
    assert (share / "of-root").stat().st_mode & 0o4000
    assert owner(share / "of-root") == (NOBODYS, NOBODYS)
    assert owner(share / "of-other") == (NOBODYS + 33, NOBODYS + 33)
    assert owner(share / "of-user") == owner(share) == (USER, USER)


def test_the_guests_first_user_is_not_root_here(serve: Serve, share: Path) -> None:
    """If root runs swarm, every owner is nobody, and the folder that root has made is the guest's to write into."""
    serve(share, 0)
    assert owner(share / "of-root") == (NOBODYS, NOBODYS)
    assert owner(share / "of-user") == owner(share) == (NOBODYS + FIRST_USER,) * 2


def test_what_was_there_before_is_the_guests(serve: Serve, share: Path, own: Path) -> None:
    """Files of the time without a mapping get their owners once, lose set-user-ID, and no link is followed."""
    os.chown(share, USER, USER)
    (share / "deep").mkdir()
    old, link, aside = share / "deep/old", share / "deep/link", own / "aside"
    for path in (old, aside):
        path.touch()
    old.chmod(0o4755)
    link.symlink_to(aside)
    serve(share, USER)
    assert (owner(old), owner(link), owner(aside)) == ((USER, USER), (USER, USER), (0, 0))
    assert not old.stat().st_mode & 0o4000
    (share / "later").touch()
    serve(share, USER)
    assert owner(share / "later") == (0, 0)


def test_a_folder_that_root_made_anew_is_the_guests(serve: Serve, share: Path) -> None:
    """Removing a share and making it again does not leave a folder that the guest can't write into."""
    serve(share, 0)
    subprocess.run(["rm", "-r", share], check=True)
    share.mkdir()
    serve(share, 0)
    assert owner(share) == (NOBODYS + FIRST_USER,) * 2


@pytest.mark.parametrize("linked", [False, True])
def test_other_folders_keep_their_owners(serve: Serve, share: Path, own: Path, *, linked: bool) -> None:
    """A folder outside of swarm's shares has owners of its user's making, also if a link in the shares leads there."""
    other = own / "other"
    other.mkdir()
    if linked:
        (share.parent / "link").symlink_to(other)
    serve(share.parent / "link" if linked else other, USER)
    assert (owner(other / "of-root"), owner(other / "of-user")) == ((0, 0), (FIRST_USER, FIRST_USER))


def test_the_mapping_leaves_no_owner_out() -> None:
    """The lines for the kernel give each of the 65,536 IDs exactly one outside, the same that outside() gives."""
    for user in (0, USER):
        found = {}
        for line in mapping(user).splitlines():
            inside, first, count = map(int, line.split())
            found.update({inside + number: first + number for number in range(count)})
        assert found == {number: outside(number, user) for number in range(65536)}
        assert len(set(found.values())) == 65536


@pytest.mark.parametrize("text", ['{"type": ', "[]", "7", '{"type": "fs", "binary": 7}', "[" * 100_000])
def test_a_damaged_description_of_virtiofsd_is_named(own: Path, text: str) -> None:
    """A damaged description of virtiofsd ends the start with its path, since a program could be missed."""
    (own / "damaged.json").write_text(text)
    folder = "/usr/share/qemu/vhost-user"
    script = f'mount --bind "$1" {folder} && mkdir -p /run/libvirt && shift && exec "$@"'
    words = [own, sys.executable, "-c", COVERED, own / "hypervisor", USER]
    done = apart(script, words)
    what = f"{folder}/damaged.json is no description of a program; reinstall its package, or remove the file"
    assert (done.returncode, done.stderr) == (1, f"{what}\n")
