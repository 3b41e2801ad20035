"""Restore into a real directory over a real sshd, with real rsync and SQLite."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import sqlite3
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm.backup.restore import restore
from swarm.errors import Refused, Unfit, VerificationFailed
from swarm.inventory.backup import BackupSettings
from swarm.text import quote
from tests.integration.restored import Place, contents, make_place, manifest_of

if TYPE_CHECKING:
    from swarm.backup.changes import Changes
    from swarm.ssh.guest import Guest
    from tests.sshd import Sshd

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other accounts")


@pytest.fixture
def place(guest: Guest, tmp_path: Path) -> Place:
    """A state directory with old content, and a mirror with new content."""
    return make_place(guest, tmp_path)


def test_a_restore_makes_the_state_directory_equal_to_the_mirror(place: Place) -> None:
    """Every file, link and odd name is restored. What is not in the mirror is moved aside, with what was replaced."""
    before = contents(place.state)
    done = place.restore()
    assert done.changed
    assert done.problems == ()
    assert contents(place.state) == contents(place.mirror)
    assert (place.state / "agents/main/twin.jsonl").samefile(place.state / "agents/main/session0.jsonl")
    (aside,) = place.replaced
    assert str(aside) == done.aside
    assert contents(aside) == before
    assert sorted(path.name for path in (place.home / ".openclaw-restore").iterdir()) == []


def test_a_second_restore_finds_nothing_to_do(place: Place) -> None:
    """Right after a restore, the next one changes nothing."""
    place.restore()
    done = place.restore()
    assert (done.changed, bool(done.changes)) == (False, False)
    assert len(place.replaced) == 1


def test_a_plan_changes_nothing(place: Place) -> None:
    """A plan names what would change, and leaves the guest as it is."""
    before = contents(place.home)
    done = place.restore(plan_only=True)
    assert done.changes.delete == ("agents/main/session3.jsonl", "agents/main/session4.jsonl")
    assert {"openclaw.json", "state/openclaw.sqlite"} <= set(done.changes.update)
    assert contents(place.home) == before


def test_a_restore_that_is_not_confirmed_changes_nothing(place: Place) -> None:
    """The changes are confirmed before anything is copied."""

    def confirm(planned: Changes) -> None:
        raise Refused(f"{len(planned.delete)} would go")

    before = contents(place.home)
    with pytest.raises(Refused, match="2 would go"):
        restore(
            place.target, place.mirror, manifest_of(place.mirror), place.settings, place.talk, confirm=confirm
        )
    assert contents(place.home) == before


def test_a_guest_without_a_state_directory_gets_one(place: Place) -> None:
    """On a new machine there is nothing to move aside."""
    shutil.rmtree(place.state)
    done = place.restore()
    assert done.aside == ""
    assert contents(place.state) == contents(place.mirror)


def test_modes_are_restored_and_secrets_are_private(place: Place) -> None:
    """The state directory and the secrets are for the account alone, other files as the manifest says, times too."""
    (place.mirror / "workspace-two/MEMORY.md").chmod(0o751)
    (place.mirror / "credentials/telegram").chmod(0o755)
    place.state.chmod(0o755)
    os.utime(place.mirror / "agents/main", ns=(1, 1234567890123456789))
    place.restore()

    def mode(name: str) -> int:
        return (place.state / name).stat().st_mode & 0o7777

    assert [mode(name) for name in (".", "openclaw.json", ".env", "identity/key")] == [
        0o700,
        0o600,
        0o600,
        0o600,
    ]
    assert [mode(name) for name in ("credentials/telegram", "state/openclaw.sqlite")] == [0o700, 0o600]
    assert mode("workspace-two/MEMORY.md") == 0o751
    assert (place.state / "agents/main").stat().st_mtime_ns == 1234567890123456789


def test_excluded_entries_stay_as_they_are(place: Place) -> None:
    """What a backup leaves out survives a restore, at the top and deep inside directories that are replaced."""
    for name in ("workspace/notes.md", "logs/today.log", "agents/main/old.backup-1", "agents/gone/x.failed"):
        (place.state / name).parent.mkdir(exist_ok=True)
        (place.state / name).write_text("mine")
    inode = (place.state / "workspace/notes.md").stat().st_ino
    done = place.restore()
    assert (place.state / "workspace/notes.md").stat().st_ino == inode
    assert (place.state / "logs/today.log").read_text() == "mine"
    assert (place.state / "agents/main/old.backup-1").read_text() == "mine"
    assert (place.replaced[0] / "agents/gone/x.failed").read_text() == "mine"
    assert any("1 excluded entries" in note for note in done.notes)
    assert not place.restore().changes


def test_what_rsync_leaves_out_is_left_out_here_too(place: Place) -> None:
    """A mirror made by rsync with the same patterns is found equal, whatever kind of pattern it is."""
    patterns = (
        "/top/", "*.log", "deep/inner/", "/a/*/c", "b?d", "[x-z]1", "[!a]2", "**/wild/*.tmp", "/only/***", "dir/",
        "a\\*b", "/q/**/end", "**/any/", "[!]c]3", "g\\h", "u?v", "[[:upper:]]4",
    )  # fmt: skip
    shutil.rmtree(place.state)
    shutil.rmtree(place.mirror)
    for name in (
        "top/x", "sub/top/x", "x.log", "sub/y.log/z", "deep/inner/f", "sub/deep/inner/f", "deep/f", "a/b/c", "a/c",
        "x/a/b/c", "bad", "s/bed", "bd", "x1", "w1", "b2", "a2", "p/wild/a.tmp", "p/wild/a.txt", "only/f", "z/only/f",
        "dir/f", "k/dir", "q/1/2/end", "q/end", "any/f", "s/any/f", "d3", "c3", "g\\h", "gh", "uwv", "uév", "Z4", "z4",
        "openclaw.json",
    ):  # fmt: skip
        (place.state / name).parent.mkdir(parents=True, exist_ok=True)
        (place.state / name).write_text(name)
    place.state.chmod(0o700)
    (place.state / "openclaw.json").chmod(0o600)
    excludes = [f"--exclude={pattern}" for pattern in patterns]
    subprocess.run(["rsync", "-a", *excludes, f"{place.state}/", f"{place.mirror}/"], check=True)
    place.settings = BackupSettings(exclude=patterns)
    done = place.restore(plan_only=True)
    assert done.changes.lines() == ["0 to create, 0 to update, 0 to delete"]


def test_a_database_opens_beside_what_the_old_one_left(place: Place) -> None:
    """The -wal and -shm of the replaced database, and stale ones in the mirror, are not beside the restored one."""
    place.settings = BackupSettings(exclude=(*BackupSettings().exclude, "*-wal", "*-shm"))
    for folder in (place.state, place.mirror):
        for suffix in ("-wal", "-shm", "-journal"):
            (folder / f"state/openclaw.sqlite{suffix}").write_bytes(b"\x37\x7f\x06\x82" + b"junk" * 5000)
    place.restore()
    assert [path.name for path in (place.state / "state").iterdir()] == ["openclaw.sqlite"]
    with contextlib.closing(sqlite3.connect(place.state / "state/openclaw.sqlite")) as database:
        assert database.execute("SELECT count(*), min(word) FROM said").fetchone() == (200, "new")


def test_rows_that_are_only_in_the_wal_are_a_change(place: Place) -> None:
    """A database whose main file is unchanged is restored if newer rows are in its -wal."""
    place.restore()
    with contextlib.closing(sqlite3.connect(place.state / "state/openclaw.sqlite")) as database:
        database.execute("INSERT INTO said VALUES ('later')")
        database.commit()
        assert place.restore(plan_only=True).changes.update == ("state/openclaw.sqlite",)


@pytest.mark.slow
def test_many_restores_do_not_grow_the_state_directory(place: Place) -> None:
    """After each of five restores there are the same files, and only three of the replaced trees are kept."""
    counts = set()
    for number in range(5):
        (place.state / "agents/main/session0.jsonl").write_text(f"changed {number}")
        place.restore()
        counts.add(len(contents(place.state)))
    assert counts == {len(contents(place.mirror))}
    assert len(place.replaced) == 3
    assert (place.replaced[-1] / "agents/main/session0.jsonl").read_text() == "changed 4"


def test_the_newest_replaced_tree_is_kept_though_the_clock_was_set_back(place: Place) -> None:
    """What this restore has replaced is never what it removes, whatever its name."""
    for year in (2091, 2092, 2093):
        (place.home / f".openclaw-replaced/{year}0101t000000z").mkdir(parents=True)
    done = place.restore()
    assert (Path(done.aside) / "openclaw.json").exists()
    assert len(place.replaced) == 3


def test_nothing_is_written_through_a_link(place: Place, tmp_path: Path) -> None:
    """A link in the place of a directory is replaced, in the guest as in the mirror. What it points to is untouched."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "session0.jsonl").write_text("precious")
    shutil.rmtree(place.state / "agents/main")
    (place.state / "agents/main").symlink_to(outside)
    shutil.rmtree(place.mirror / "hooks")
    (place.mirror / "hooks").symlink_to(outside)
    place.restore()
    assert contents(outside) == {"session0.jsonl": b"precious"}
    assert outside.stat().st_mode & 0o777 == 0o755
    assert (place.state / "hooks").readlink() == outside
    assert contents(place.state / "agents") == contents(place.mirror / "agents")


@pytest.mark.parametrize("name", [".openclaw", ".openclaw-restore", ".openclaw-replaced"])
def test_a_link_in_the_place_of_an_own_directory_is_refused(place: Place, tmp_path: Path, name: str) -> None:
    """The state directory, the staging directory and the place of old trees must be real directories."""
    outside = tmp_path / "outside"
    outside.mkdir()
    before = contents(place.state)
    if name == ".openclaw":
        place.state.rename(place.home / "real")
    (place.home / name).symlink_to(outside)
    with pytest.raises(VerificationFailed, match=f"{name} is not a directory, or is a link"):
        place.restore()
    assert contents(outside) == {}
    assert contents(place.home / "real" if name == ".openclaw" else place.state) == before


def test_owners_are_restored_by_name(place: Place, server: Sshd) -> None:
    """Files belong to the account, though it has another ID and another name here. The account stands in for others."""
    accounts = server.folder / "passwd"
    with accounts.open("a") as file:
        file.write("agent:x:1501:1501::/nonexistent:/bin/sh\n")
    manifest = manifest_of(place.mirror, "ubuntu")
    owners = {"openclaw.json": "ubuntu", ".env": "nobody-here", "identity/key": "daemon"}
    entries = [
        replace(each, owner=owners.get(each.path, each.owner), group=owners.get(each.path, each.group))
        for each in manifest.entries
    ]
    target = replace(place.target, user="agent")
    manifest = replace(manifest, entries=tuple(entries))
    done = restore(target, place.mirror, manifest, place.settings, place.talk)
    daemon = pwd.getpwnam("daemon")

    def owner(name: str) -> tuple[int, int]:
        info = (place.state / name).lstat()
        return info.st_uid, info.st_gid

    assert [owner(name) for name in (".", "openclaw.json", ".env")] == [(1501, 1501)] * 3
    assert owner("identity/key") == (daemon.pw_uid, daemon.pw_gid)
    assert "the guest has no user nobody-here: agent takes its place" in done.notes
    assert not restore(target, place.mirror, manifest, place.settings, place.talk).changes


@pytest.mark.parametrize("harm", ["flip", "cut", "missing", "extra", "kind"])
def test_a_tree_that_is_not_what_the_manifest_lists_changes_nothing(place: Place, harm: str) -> None:
    """Each difference between the copy in the guest and the manifest is found before the swap, and named."""
    before, manifest, victim = contents(place.state), manifest_of(place.mirror), place.mirror / "identity/key"
    if harm == "flip":
        victim.write_bytes(victim.read_bytes()[:-1] + b"!")
    elif harm == "cut":
        victim.write_bytes(victim.read_bytes()[:-1])
    elif harm == "extra":
        (place.mirror / "identity/key2").touch()
    else:
        victim.unlink()
        if harm == "kind":
            victim.mkdir()
    with pytest.raises(VerificationFailed, match=r"nothing was changed: identity/key2?: "):
        restore(place.target, place.mirror, manifest, place.settings, place.talk)
    assert contents(place.state) == before
    assert place.replaced == []


def test_a_damaged_database_is_not_restored(place: Place) -> None:
    """A database that fails its integrity check is refused, though its checksum is right."""
    path = place.mirror / "state/openclaw.sqlite"
    data = bytearray(path.read_bytes())
    data[4096:4200] = b"\x99" * 104
    path.write_bytes(data)
    before = contents(place.state)
    with pytest.raises(VerificationFailed, match=r"state/openclaw\.sqlite: not a sound database"):
        place.restore()
    assert contents(place.state) == before


def test_a_manifest_that_leaves_the_state_directory_is_refused(place: Place) -> None:
    """A path with `..` in the manifest is refused on this machine."""
    entry = replace(manifest_of(place.mirror).entries[0], path="../escape", kind="directory")
    manifest = replace(manifest_of(place.mirror), entries=(entry,))
    with pytest.raises(VerificationFailed, match=r"the manifest lists \.\./escape, an invalid path"):
        restore(place.target, place.mirror, manifest, place.settings, place.talk)


def test_a_link_that_cannot_be_restored_is_reported(place: Place) -> None:
    """Everything else is restored, and each such link is listed."""
    manifest = manifest_of(place.mirror)
    for name in ("hooks/passwd", "hooks/self"):
        (place.mirror / name).unlink()
    done = restore(place.target, place.mirror, manifest, place.settings, place.talk)
    assert done.problems == ("hooks/passwd: missing", "hooks/self: missing")
    assert contents(place.state) == contents(place.mirror)


def test_an_empty_backup_is_refused(place: Place) -> None:
    """A restore that would remove everything does nothing."""
    before = contents(place.state)
    with pytest.raises(Refused, match="the backup is empty"):
        restore(
            place.target,
            place.mirror,
            replace(manifest_of(place.mirror), entries=()),
            place.settings,
            place.talk,
        )
    assert contents(place.state) == before


@pytest.mark.parametrize("staged", [False, True])
def test_a_full_disk_in_the_guest_is_named(place: Place, staged: bool) -> None:  # noqa: FBT001
    """What does not fit is found before the transfer, or by it, and the state directory stays as it is."""
    (place.mirror / "agents/big").write_bytes(os.urandom(4 << 20))
    home, state = quote(place.home), quote(place.state)
    place.guest.run(
        f"mount -t tmpfs -o size=3m tmpfs {home} && mkdir -m 700 {state} && echo old >{state}/openclaw.json"
    )
    if staged:
        place.guest.run(f"mkdir -p {home}/.openclaw-restore/staging/agents")
    try:
        with pytest.raises(
            Unfit, match="the guest's disk is full" if staged else "not enough disk space: 4 MiB are needed"
        ):
            place.restore()
        assert place.guest.run(f"cat {state}/*; ls -A {state}").stdout == "old\nopenclaw.json\n"
    finally:
        place.guest.run(f"umount {home}")
