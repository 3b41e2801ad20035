"""Archives against standard tools: names, times, links, encryption, memory and full disks."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import pyrage
import pytest
from backports import zstd

from swarm.backup.archive import pack, stored_sha256, unpack
from swarm.errors import SwarmError, Unfit, UsageError, VerificationFailed
from tests.conftest import ROOT
from tests.integration.archives import (
    CLOSING,
    OWNERS,
    make_identity,
    make_tree,
    packed,
    pieces,
    public,
    read,
    shape,
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A mirror with everything that is difficult."""
    return make_tree(tmp_path / "tree")


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    """The file of a new age secret key."""
    return make_identity(tmp_path / "identity")


def test_a_tree_survives_the_round_trip(tree: Path, tmp_path: Path) -> None:
    """Names, content, modes, times to the nanosecond and both kinds of links come back as they were."""
    result, archive = packed(tree)
    (tmp_path / "out").mkdir()
    unpacked = unpack(pieces(archive), tmp_path / "out", identity=None)
    assert unpacked.problems == ()
    assert unpacked.entries == result.entries
    assert shape(tmp_path / "out") == shape(tree)
    assert (result.sha256, result.stored) == stored_sha256([archive])
    owners = {entry.path: (entry.owner, entry.group) for entry in result.entries}
    assert (owners["sub"], owners["sub/deep"]) == (("agent", "agent"), ("root", "adm"))


def test_an_encrypted_archive_needs_its_identity(tree: Path, tmp_path: Path, identity: Path) -> None:
    """The right identity reads everything; a missing or wrong one says which key is needed."""
    recipient = public(identity)
    result, archive = packed(tree, recipient)
    assert b"secret" not in archive
    assert read(archive, identity=identity) == result.entries
    with pytest.raises(UsageError, match=f"encrypted to {recipient}"):
        unpack(pieces(archive), None, identity=None, recipient=recipient)
    other = tmp_path / "other"
    other.write_text(str(pyrage.x25519.Identity.generate()), encoding="ascii")
    with pytest.raises(
        UsageError, match=f"other can't decrypt the archive, which is encrypted to {recipient}"
    ):
        unpack(pieces(archive), None, identity=other, recipient=recipient)


def test_standard_tools_read_and_check_an_archive(tree: Path, tmp_path: Path) -> None:
    """`zstd -d | tar -x` restores the same tree, and `sha256sum -c` accepts every file, odd names included."""
    _, archive = packed(tree)
    out = tmp_path / "out"
    out.mkdir()
    plain = subprocess.run(["zstd", "-dc"], input=archive, capture_output=True, check=True).stdout
    for language in ("C", "C.UTF-8"):
        shutil.rmtree(out)
        out.mkdir()
        subprocess.run(
            ["tar", "-xpf", "-", "--no-same-owner", "-C", out],
            input=plain, check=True, env={**os.environ, "LC_ALL": language}, capture_output=True,
        )  # fmt: skip
        assert shape(out) == shape(tree)
    checked = subprocess.run(
        ["sha256sum", "-c", "--strict", CLOSING], cwd=out, capture_output=True, check=True
    )
    assert (
        checked.stdout.count(b": OK\n") == sum(1 for path in tree.rglob("*") if path.is_file()) - 2
    )  # links


def test_tarfile_reads_the_same_names(tree: Path) -> None:
    """Python's tarfile, with the default settings, finds the same paths and targets."""
    result, archive = packed(tree)
    with tarfile.open(fileobj=io.BytesIO(zstd.decompress(archive))) as tar:
        found = [(member.name, member.linkname) for member in tar]
    assert found == [(entry.path, entry.target) for entry in result.entries] + [(CLOSING, "")]


def test_sockets_and_pipes_are_left_out_with_a_note(tree: Path) -> None:
    """What can't be restored is not archived, and does not block."""
    os.mkfifo(tree / "pipe")
    result, archive = packed(tree)
    assert result.notes == ("pipe was left out: it is a socket, a pipe or a device",)
    assert read(archive) == result.entries


def test_the_closing_member_of_an_earlier_restore_is_not_archived(tree: Path) -> None:
    """A tree that tar has restored contains the old checksums; packing it again works and leaves them out."""
    (tree / ".swarm-archive").mkdir()
    (tree / ".swarm-archive" / "SHA256SUMS").write_text("old")
    result, archive = packed(tree)
    assert read(archive) == result.entries
    assert not any(entry.path.startswith(".swarm-archive") for entry in result.entries)
    assert result.notes == (".swarm-archive was left out: archives reserve this name",)


def test_a_link_that_leaves_the_tree_comes_back_as_a_link(tree: Path, tmp_path: Path) -> None:
    """A link to /etc/shadow is a link in the archive and after unpacking, and nothing is read through it."""
    (tree / "shadow").symlink_to("/etc/shadow")
    (tree / "sub" / "up").symlink_to("../../outside")
    result, archive = packed(tree)
    (tmp_path / "out").mkdir()
    unpacked = unpack(pieces(archive), tmp_path / "out", identity=None)
    assert (unpacked.problems, unpacked.entries) == ((), result.entries)
    assert shape(tmp_path / "out") == shape(tree)


def test_only_selected_files_are_written(tree: Path, tmp_path: Path) -> None:
    """`only` writes what it selects and the directories above, with their modes. All else is verified."""
    result, archive = packed(tree)
    (tmp_path / "out").mkdir()
    wanted = "sub/deep/" + "d" * 200 + "/file"
    unpacked = unpack(pieces(archive), tmp_path / "out", identity=None, only=lambda path: path == wanted)
    assert unpacked.entries == result.entries
    before, after = shape(tree), shape(tmp_path / "out")
    assert after == {name: before[name] for name in after}
    assert max(after) == wanted.encode()
    assert len(after) == 4


def test_a_hard_link_alone_says_what_else_must_be_selected(tree: Path, tmp_path: Path) -> None:
    """The content of a hard link is under its first name: selecting only the other one is a problem by name."""
    _, archive = packed(tree)
    (tmp_path / "out").mkdir()
    unpacked = unpack(pieces(archive), tmp_path / "out", identity=None, only=lambda path: path == "secret")
    assert unpacked.problems == ("secret: is a hard link to second-name, which is not selected",)
    assert list((tmp_path / "out").iterdir()) == []


def test_holes_keep_the_content_where_it_was(tmp_path: Path) -> None:
    """Files with holes at the start, in the middle and at the end come back equal, and take no more room."""
    root, out = tmp_path / "tree", tmp_path / "out"
    root.mkdir()
    out.mkdir()
    for name, places, size in (
        ("middle", (3 << 20, 5_000_001), 9 << 20),
        ("ends", (0, (8 << 20) - 1), 8 << 20),
        ("nothing", (), (2 << 20) + 1),
    ):
        with (root / name).open("wb") as file:
            for place in places:
                file.seek(place)
                file.write(b"x")
            file.truncate(size)
    (root / "zeros").write_bytes(bytes(3 << 20))
    result, archive = packed(root)
    assert read(archive, out) == result.entries
    for path in root.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()
        assert (out / path.name).stat().st_blocks * 512 < 1 << 20
    assert result.size == sum(path.stat().st_size for path in root.iterdir())


def test_a_file_that_changes_while_it_is_read_is_named(tree: Path) -> None:
    """A file that grows during the pass ends it with its name: its checksum would be that of neither state."""

    def grow(_size: int) -> None:
        with (tree / "large").open("ab") as file:
            file.write(b"more")

    with pytest.raises(VerificationFailed, match="large in the mirror changed"):
        pack(tree, OWNERS, [io.BytesIO()], recipient=None, progress=grow)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_an_unreadable_file_is_named() -> None:
    """A file without read permission fails by its path, and is not left out (rsnapshot PR#179)."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "folder").mkdir()
        (root / "folder" / "locked").touch(0o600)
        os.seteuid(65534)
        try:
            with pytest.raises(Unfit, match="can't read folder/locked in the mirror: Permission denied"):
                packed(root)
        finally:
            os.seteuid(0)


@pytest.mark.parametrize("recipient", [False, True])
def test_the_last_sink_that_fails_ends_the_pass(tree: Path, identity: Path, recipient: bool) -> None:  # noqa: FBT001
    """If no sink is left, its error is raised as it was, whatever stands between."""

    class Broken:
        def write(self, _data: bytes) -> None:
            raise SwarmError("the destination is down")

    with pytest.raises(SwarmError, match="the destination is down"):
        pack(tree, OWNERS, [Broken(), Broken()], recipient=public(identity) if recipient else None)


def test_an_existing_link_in_the_target_is_not_followed(tree: Path, tmp_path: Path) -> None:
    """If a member's place is taken by a link out of the tree, nothing is written through it (duplicacy PR#691)."""
    _, archive = packed(tree)
    out, outside = tmp_path / "out", tmp_path / "outside"
    out.mkdir()
    outside.write_text("unharmed")
    (out / "large").symlink_to(outside)
    with pytest.raises(Unfit, match="can't write large"):
        read(archive, out)
    assert outside.read_text() == "unharmed"


def test_one_link_that_cannot_be_restored_does_not_stop_the_rest(tree: Path, tmp_path: Path) -> None:
    """Links that can't be created are listed, each by name; everything else is restored (restic#2578)."""
    _, archive = packed(tree)
    out = tmp_path / "out"
    (out / "secret").mkdir(parents=True)  # in the way of a hard link
    unpacked = unpack(pieces(archive), out, identity=None)
    [problem] = unpacked.problems
    assert problem.startswith("secret: ")
    assert "File exists" in problem
    before, after = shape(tree), shape(out)
    assert {name for name in before if before[name] != after[name]} == {b"secret", b"second-name"}


def test_equal_trees_give_equal_archives(tree: Path) -> None:
    """Packing twice gives the same bytes, so that an unchanged state can be told by its checksum."""
    assert packed(tree)[0] == packed(tree)[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
def test_a_full_disk_is_named(tree: Path, tmp_path: Path) -> None:
    """Unpacking onto a disk that is too small says so, and names the directory."""
    small = tmp_path / "small"
    small.mkdir()
    _, archive = packed(tree)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], check=False)
    if mounted.returncode:
        pytest.skip("can't mount a tmpfs here")
    try:
        with pytest.raises(Unfit, match=f"the disk of {small} is full"):
            read(archive, small)
    finally:
        subprocess.run(["umount", small], check=True)


# ru_maxrss would be at least that of the process that started this one.
_MEASURE = r"""
import re, sys
from pathlib import Path
from swarm.backup.archive import Owners, pack, unpack
with open(sys.argv[2], "wb") as sink:
    pack(Path(sys.argv[1]), Owners("agent", "agent"), [sink], recipient=sys.argv[4] or None)
chunks = iter(lambda file=open(sys.argv[2], "rb"): file.read(1 << 20), b"")
unpack(chunks, Path(sys.argv[3]), identity=Path(sys.argv[5]))
print(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
def test_a_sparse_file_of_4_gib_needs_little_memory_and_disk(tmp_path: Path, identity: Path) -> None:
    """A huge sparse file passes in bounded memory, and is sparse again afterwards (openclaw#42273)."""
    for name in ("tree", "out"):
        (tmp_path / name).mkdir()
    with (tmp_path / "tree" / "sparse").open("wb") as file:
        file.seek(2 << 30)
        file.write(b"in the middle")
        file.truncate(4 << 30)
    ended = subprocess.run(
        [
            sys.executable, "-W", "ignore", "-c", _MEASURE,
            tmp_path / "tree", tmp_path / "archive", tmp_path / "out", public(identity), identity,
        ],
        cwd=ROOT, capture_output=True, check=True, timeout=600,
    )  # fmt: skip
    assert int(ended.stdout) < 200 << 10
    info = (tmp_path / "out" / "sparse").stat()
    assert info.st_size == 4 << 30
    assert info.st_blocks * 512 < 1 << 20
    with (tmp_path / "out" / "sparse").open("rb") as file:
        file.seek(2 << 30)
        assert file.read(13) == b"in the middle"


def test_the_limit_slows_the_output(tree: Path) -> None:
    """With a limit the archive takes at least as long as the limit says; it is the same archive."""
    start = time.monotonic()
    result = pack(tree, OWNERS, [io.BytesIO()], recipient=None, limit=2 << 20)
    assert time.monotonic() - start >= result.stored / (2 << 20) * 0.99
