"""Archives that are hostile, cut short or damaged: each is refused, and says what is wrong."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from backports import zstd

from swarm.backup.archive import Incomplete, unpack
from swarm.backup.manifest import Manifest, compare
from swarm.errors import VerificationFailed
from tests.integration.archives import CLOSING, crafted, make_identity, make_tree, packed, public, read

_FILE, _DIR, _LINK, _HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A mirror with everything that is difficult."""
    return make_tree(tmp_path / "tree")


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    """The file of a new age secret key."""
    return make_identity(tmp_path / "identity")


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
        ([(CLOSING, _LINK, "/etc/passwd")], "uses a reserved name"),
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
        tar.addfile(tarfile.TarInfo(CLOSING))
        tar.addfile(tarfile.TarInfo("late"))
    with pytest.raises(VerificationFailed, match="late follows the closing member"):
        read(zstd.compress(buffer.getvalue()))


def test_chained_links_lead_nothing_out_of_the_tree(tmp_path: Path) -> None:
    """Links are written as links, however they are chained, and no member is written or linked through one."""
    out = tmp_path / "base" / "out"
    out.mkdir(parents=True)
    members = [("a", _DIR, ""), ("a/b", _DIR, ""), ("a/b/top", _LINK, "../.."), ("up", _LINK, "a/b/top/..")]
    assert unpack([crafted(*members)], out, identity=None).problems == ()
    assert (out / "up").readlink() == Path("a/b/top/..")
    for number, harm in enumerate((("up/new", _FILE, ""), ("hard", _HARD, "up/out/kept"))):
        (out.parent / str(number)).mkdir()
        with pytest.raises(VerificationFailed, match="not safe to unpack"):
            unpack([crafted(("kept", _FILE, ""), *members, harm)], out.parent / str(number), identity=None)
    assert sorted(path.name for path in out.parent.iterdir()) == ["0", "1", "out"]


def cuts(plain: bytes) -> dict[str, int]:
    """Return where to cut a tar: between members, inside a header, inside data, before the end."""
    start = plain.index(b"token") // 512 * 512  # the data of `secret`
    large = plain.index(b"large\0") // 512 * 512
    return {
        "boundary": start + 512,
        "header": start + 512 + 700,
        "data": large + 512 + (1 << 20),
        "inside a block": start + 2,
        "closing": plain.index(CLOSING.encode()) // 512 * 512 + 600,
        "end": len(plain.rstrip(b"\0")) // 512 * 512 + 512,
        "nothing": 0,
    }


@pytest.mark.parametrize(
    ("place", "where"),
    [
        ("boundary", "after second-name"),
        ("header", "after second-name"),
        ("data", "inside large"),
        ("inside a block", "inside second-name"),
        ("closing", f"inside {CLOSING}"),
        ("end", r"after sub/\udcff\udcfe"),
        ("nothing", "before its first member"),
    ],
)
def test_a_tar_that_is_cut_is_incomplete(tree: Path, place: str, where: str) -> None:
    """A tar that ends early inside a complete zstd frame is noticed, and the manifest tells what is missing."""
    result, archive = packed(tree)
    plain = zstd.decompress(archive)
    with pytest.raises(Incomplete) as caught:
        read(zstd.compress(plain[: cuts(plain)[place]]))
    assert caught.value.message == f"the archive ends early, {where}"
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
