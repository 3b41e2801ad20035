"""Archives against standard tools, odd names, hostile members, and damage of every kind."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pyrage
import pytest
from backports import zstd

from swarm.backup.archive import Incomplete, Owners, Packed, pack, stored_sha256, unpack
from swarm.backup.manifest import Manifest, compare
from swarm.errors import SwarmError, Unfit, UsageError, VerificationFailed
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

_ODD = (
    b"\xff\xfe",
    b"line\nbreak",
    b"esc\x1b[31m",
    b"-rf",
    b"n" * 255,
    b"back\\slash",
    b"cr\r",
    "ü".encode(),
)
_OWNERS = Owners("agent", "agent", {"sub/deep": ("root", "adm")})
_CLOSING = ".swarm-archive/SHA256SUMS"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A mirror with files of all sizes, odd names, links, and times to the nanosecond."""
    root = tmp_path / "tree"
    (root / "sub" / "deep").mkdir(parents=True)
    for at, name in enumerate(_ODD):
        (root / os.fsdecode(name)).write_bytes(name)
        (root / "sub" / os.fsdecode(name)).mkdir(exist_ok=True)
        os.utime(root / os.fsdecode(name), ns=(0, 1_700_000_000_123_456_789 + at))
    (root / "empty").touch()
    (root / "large").write_bytes(os.urandom(3 << 20) + b"tail")
    (root / "secret").write_text("token")
    (root / "secret").chmod(0o600)
    (root / "old").write_text("before 1970")
    os.utime(root / "old", ns=(0, -1_500_000_001))
    (root / "second-name").hardlink_to(root / "secret")
    (root / "sub" / "link").symlink_to("../secret")
    os.utime(root / "sub" / "link", ns=(0, 1_600_000_000_000_000_007), follow_symlinks=False)
    (root / "sub" / "deep" / ("d" * 200)).mkdir()
    (root / "sub" / "deep" / ("d" * 200) / "file").write_text("deep")
    (root / "sub").chmod(0o750)
    os.utime(root / "sub", ns=(0, 1_650_000_000_000_000_001))
    return root


def packed(root: Path, recipient: str | None = None) -> tuple[Packed, bytes]:
    """Return the result of packing a tree, and the archive."""
    sink = io.BytesIO()
    result = pack(root, _OWNERS, [sink], recipient=recipient)
    return result, sink.getvalue()


def read(archive: bytes, into: Path | None = None, identity: Path | None = None) -> tuple[object, ...]:
    """Return the entries of an archive that arrives in pieces."""
    return unpack(pieces(archive), into, identity=identity).entries


def pieces(archive: bytes) -> Iterator[bytes]:
    """Yield an archive the way a network does."""
    for at in range(0, len(archive), 100_003):
        yield archive[at : at + 100_003]


def shape(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Return everything about the files of a tree that an archive must keep."""
    found: dict[bytes, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        info, name = path.lstat(), os.fsencode(path.relative_to(root))
        if name.startswith(b".swarm-archive"):
            continue
        content: object = path.readlink() if path.is_symlink() else None
        if stat.S_ISREG(info.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest(), info.st_nlink
        found[name] = info.st_mode, info.st_mtime_ns, content
    return found


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    """The file of a new age secret key."""
    path = tmp_path / "identity"
    path.write_text(f"# a comment\n{pyrage.x25519.Identity.generate()}\n", encoding="ascii")
    return path


def public(identity: Path) -> str:
    """Return the public key of an identity."""
    secret = identity.read_text(encoding="ascii").splitlines()[1]
    return str(pyrage.x25519.Identity.from_str(secret).to_public())


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
        ["sha256sum", "-c", "--strict", _CLOSING], cwd=out, capture_output=True, check=True
    )
    assert (
        checked.stdout.count(b": OK\n") == sum(1 for path in tree.rglob("*") if path.is_file()) - 2
    )  # links


def test_tarfile_reads_the_same_names(tree: Path) -> None:
    """Python's tarfile, with the default settings, finds the same paths and targets."""
    result, archive = packed(tree)
    with tarfile.open(fileobj=io.BytesIO(zstd.decompress(archive))) as tar:
        found = [(member.name, member.linkname) for member in tar]
    assert found == [(entry.path, entry.target) for entry in result.entries] + [(_CLOSING, "")]


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


def test_a_link_that_leaves_the_tree_is_archived_and_listed_but_not_written(
    tree: Path, tmp_path: Path
) -> None:
    """A link to /etc/shadow is kept as a link in the archive. A restore names it, and writes everything else."""
    (tree / "shadow").symlink_to("/etc/shadow")
    (tree / "sub" / "up").symlink_to("../../outside")
    result, archive = packed(tree)
    assert unpack(pieces(archive), None, identity=None).problems == ()
    (tmp_path / "out").mkdir()
    unpacked = unpack(pieces(archive), tmp_path / "out", identity=None)
    assert unpacked.entries == result.entries
    assert [problem.split(":")[0] for problem in unpacked.problems] == ["shadow", "sub/up"]
    missing = shape(tree).keys() - shape(tmp_path / "out").keys()
    assert missing == {b"shadow", b"sub/up"}


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


def test_a_file_that_changes_while_it_is_read_is_named(tree: Path) -> None:
    """A file that grows during the pass ends it with its name: its checksum would be that of neither state."""

    def grow(_size: int) -> None:
        with (tree / "large").open("ab") as file:
            file.write(b"more")

    with pytest.raises(VerificationFailed, match="large in the mirror changed"):
        pack(tree, _OWNERS, [io.BytesIO()], recipient=None, progress=grow)


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
        pack(tree, _OWNERS, [Broken(), Broken()], recipient=public(identity) if recipient else None)


def crafted(*members: tuple[str, bytes, str], closing: bool = True) -> bytes:
    """Return an archive of members (name, type of tar, target); files contain their names."""
    buffer, sums = io.BytesIO(), b""
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            data = name.encode() if kind == tarfile.REGTYPE else b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
            if data and name != _CLOSING:
                sums += f"{hashlib.sha256(data).hexdigest()}  ./{name}\n".encode()
        if closing:
            info = tarfile.TarInfo(_CLOSING)
            info.size = len(sums)
            tar.addfile(info, io.BytesIO(sums))
    return zstd.compress(buffer.getvalue())


_FILE, _DIR, _LINK, _HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ([("/etc/passwd", _FILE, "")], "/etc/passwd is an absolute path"),
        ([("../escape", _FILE, "")], "../escape is not a plain relative path"),
        ([("a", _DIR, ""), ("a/../../escape", _FILE, "")], "a/../../escape is not a plain"),
        ([("a//b", _FILE, "")], "a//b is not a plain"),
        ([("disk", tarfile.BLKTYPE, "")], "disk, which is no file"),
        ([("console", tarfile.CHRTYPE, "")], "console, which is no file"),
        ([("pipe", tarfile.FIFOTYPE, "")], "pipe, which is no file"),
        ([("twice", _FILE, ""), ("twice", _FILE, "")], "twice occurs twice"),
        ([("twice", _LINK, "there"), ("twice", _FILE, "")], "twice occurs twice"),
        ([("door", _LINK, "/etc"), ("door/passwd", _FILE, "")], "door/passwd is not beneath a directory"),
        ([("no/parent", _FILE, "")], "no/parent is not beneath a directory"),
        ([("hard", _HARD, "/etc/shadow")], "hard is a hard link to /etc/shadow"),
        ([("hard", _HARD, "../shadow")], "hard is a hard link to ../shadow"),
        ([("link", _LINK, "/etc/shadow"), ("hard", _HARD, "link")], "hard is a hard link to link"),
        ([("hard", _HARD, "later"), ("later", _FILE, "")], "hard is a hard link to later"),
        ([("x" * 300, _FILE, "")], "has too long a name"),
        ([(".swarm-archive", _LINK, "/etc")], ".swarm-archive uses a reserved name"),
        ([(_CLOSING, _LINK, "/etc/passwd")], "uses a reserved name"),
    ],
)
def test_a_hostile_member_is_refused_by_name(
    tmp_path: Path, members: list[tuple[str, bytes, str]], named: str
) -> None:
    """Nothing that could reach outside of the tree is unpacked, and verification refuses it too."""
    archive = crafted(*members)
    out = tmp_path / "base" / "out"
    out.mkdir(parents=True)
    for into in (None, out):
        with pytest.raises(VerificationFailed) as caught:
            unpack([archive], into, identity=None)
        assert named in caught.value.message
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_member_after_the_closing_one_is_refused() -> None:
    """Nothing may follow the checksums that it is not in."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo(_CLOSING))
        tar.addfile(tarfile.TarInfo("late"))
    with pytest.raises(VerificationFailed, match="late follows the closing member"):
        read(zstd.compress(buffer.getvalue()))


def test_chained_links_cannot_leave_the_tree(tmp_path: Path) -> None:
    """A link through another link and up again could leave the tree although it looks as if it stayed."""
    members = [("a", _DIR, ""), ("a/b", _DIR, ""), ("a/b/top", _LINK, "../.."), ("out", _LINK, "a/b/top/..")]
    unpacked = unpack([crafted(*members)], tmp_path, identity=None)
    assert [problem.split(":")[0] for problem in unpacked.problems] == ["out"]
    assert not (tmp_path / "out").is_symlink()


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
    (out / "second-name").mkdir(parents=True)
    unpacked = unpack(pieces(archive), out, identity=None)
    assert [problem.split(":")[0] for problem in unpacked.problems] == ["second-name"]
    assert "File exists" in unpacked.problems[0]
    assert shape(out).keys() == shape(tree).keys()
    assert (out / "sub" / "link").read_text() == "token"


def test_equal_trees_give_equal_archives(tree: Path) -> None:
    """Packing twice gives the same bytes, so that an unchanged state can be told by its checksum."""
    assert packed(tree)[0] == packed(tree)[0]


def cuts(plain: bytes) -> dict[str, int]:
    """Return where to cut a tar: between members, inside a header, inside data, before the end."""
    start = plain.index(b"token") // 512 * 512  # the data of `secret`
    large = plain.index(b"large\0") // 512 * 512
    return {
        "boundary": start + 512,
        "header": start + 512 + 700,
        "data": large + 512 + (1 << 20),
        "inside a block": start + 2,
        "closing": plain.index(_CLOSING.encode()) // 512 * 512 + 600,
        "end": len(plain.rstrip(b"\0")) // 512 * 512 + 512,
        "nothing": 0,
    }


@pytest.mark.parametrize(
    "place", ["boundary", "header", "data", "inside a block", "closing", "end", "nothing"]
)
def test_a_tar_that_is_cut_is_incomplete(tree: Path, place: str) -> None:
    """A tar that ends early inside a complete zstd frame is noticed, and the manifest tells what is missing."""
    result, archive = packed(tree)
    plain = zstd.decompress(archive)
    with pytest.raises(Incomplete, match="the archive ends early") as caught:
        read(zstd.compress(plain[: cuts(plain)[place]]))
    manifest = Manifest("zap", "", "agent", result.entries)
    missing = {problem.removesuffix(": missing") for problem in compare(manifest, caught.value.entries)}
    complete = {entry.path for entry in caught.value.entries}
    assert missing == {entry.path for entry in result.entries} - complete
    assert bool(missing) == (place not in {"closing", "end"})


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.9, 0.99999])
def test_a_stored_archive_that_is_cut_is_noticed(tree: Path, identity: Path, share: float) -> None:
    """An archive that is cut anywhere fails to verify, encrypted or not."""
    for recipient in (None, public(identity)):
        _, archive = packed(tree, recipient)
        with pytest.raises(Incomplete if share else VerificationFailed):
            read(archive[: int(len(archive) * share)], identity=identity)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999999])
def test_a_flipped_byte_is_noticed(tree: Path, identity: Path, share: float) -> None:
    """One flipped byte anywhere fails to verify, encrypted or not."""
    for recipient in (None, public(identity)):
        _, archive = packed(tree, recipient)
        at = int(len(archive) * share)
        damaged = archive[:at] + bytes([archive[at] ^ 1]) + archive[at + 1 :]
        with pytest.raises(VerificationFailed):
            read(damaged, identity=identity)


def test_changed_content_does_not_match_the_checksums(tree: Path) -> None:
    """Content that was changed and compressed again is not what the closing member lists."""
    _, archive = packed(tree)
    changed = zstd.decompress(archive).replace(b"token", b"t0ken")
    with pytest.raises(VerificationFailed, match="SHA256SUMS does not match"):
        read(zstd.compress(changed))


@pytest.mark.parametrize("tail", [b"x", b"\0" * 511 + b"x"])
def test_data_after_the_end_is_refused(tree: Path, tail: bytes) -> None:
    """Neither the tar nor the frame may be followed by anything."""
    _, archive = packed(tree)
    with pytest.raises(VerificationFailed, match="data follows its end"):
        read(archive + tail)
    with pytest.raises(VerificationFailed, match="data follows its end"):
        read(zstd.compress(zstd.decompress(archive) + tail))


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
    import time

    start = time.monotonic()
    result = pack(tree, _OWNERS, [io.BytesIO()], recipient=None, limit=2 << 20)
    assert time.monotonic() - start >= result.stored / (2 << 20) * 0.99
