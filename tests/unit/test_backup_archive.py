"""What an archive's parts promise on their own: headers, checksums, links, and small sealed objects."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.backup import tar
from swarm.backup.checksums import line
from swarm.backup.crypt import seal, unseal
from swarm.backup.manifest import Entry
from swarm.errors import UsageError, VerificationFailed

if TYPE_CHECKING:
    from pathlib import Path

_COMPONENTS = st.binary(min_size=1, max_size=255).filter(
    lambda part: b"/" not in part and b"\0" not in part and part not in {b".", b".."}
)
_PATHS = st.lists(_COMPONENTS, min_size=1, max_size=4).map(lambda parts: os.fsdecode(b"/".join(parts)))
_OWNERS = st.binary(max_size=60).filter(lambda name: b"\0" not in name).map(os.fsdecode)
_ENTRIES = st.builds(
    Entry,
    path=_PATHS,
    kind=st.sampled_from(["file", "directory", "link", "hard"]),
    mode=st.integers(0, 0o7777),
    mtime_ns=st.integers(-(10**20), 10**20),
    owner=_OWNERS,
    group=_OWNERS,
    size=st.just(0),
    target=_PATHS,
).map(lambda entry: entry if entry.kind in {"link", "hard"} else Entry(**{**vars(entry), "target": ""}))


@given(_ENTRIES)
def test_a_header_reads_back_as_it_was_written(entry: Entry) -> None:
    """Any name of bytes, any time to the nanosecond and any owner survive a header."""
    [found] = tar.Reader(iter([tar.header(entry), tar.END]))
    path = found.path.removesuffix("/") if entry.kind == "directory" else found.path
    assert Entry(**{**vars(found), "path": path}) == entry


@given(_ENTRIES)
def test_tarfile_agrees_about_a_header(entry: Entry) -> None:
    """Python's tarfile reads the same name, target, mode and owner."""
    with tarfile.open(fileobj=io.BytesIO(tar.header(entry) + tar.END)) as archive:
        [found] = archive
    assert found.name == entry.path.rstrip("/")
    assert (found.mode, found.uname, found.gname) == (entry.mode, entry.owner, entry.group)
    assert found.linkname == entry.target


@pytest.mark.parametrize("size", [(8 << 30) - 1, 8 << 30, 1 << 45])
def test_large_sizes_survive_a_header(size: int) -> None:
    """A size above 8 GiB, which a plain header can't hold, is kept."""
    entry = Entry("log", "file", 0o600, 0, "agent", "agent", size)
    found = next(iter(tar.Reader(iter([tar.header(entry)]))))
    assert found.size == size


@pytest.mark.parametrize("at", [0, 100, 130, 156, 260, 300])
def test_a_damaged_header_is_noticed(at: int) -> None:
    """A header with one changed byte fails its checksum."""
    header = bytearray(tar.header(Entry("file", "file", 0o600, 0, "agent", "agent")))
    header[at] ^= 0x40
    with pytest.raises(VerificationFailed, match="malformed"):
        list(tar.Reader(iter([bytes(header), tar.END])))


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE])
def test_a_negative_size_is_malformed(kind: bytes) -> None:
    """A member or an extended header of less than zero bytes is an error, and no endless loop."""
    block = tarfile.TarInfo("x")
    block.type, block.mtime = kind, 0
    header = bytearray(block.tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = b"-0000000001\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(VerificationFailed, match="malformed"):
        next(iter(tar.Reader(iter([bytes(header), tar.END]))))


@pytest.mark.parametrize("records", [b"9999 a=b\n", b"x", b"6 path\n", b"12 path=abc\0", b"11 mtime=x\n\n"])
def test_malformed_records_are_noticed(records: bytes) -> None:
    """Extended records that don't add up are one error, not a guess."""
    block = tarfile.TarInfo("x")
    block.type, block.size = tarfile.XHDTYPE, len(records)
    data = block.tobuf(tarfile.USTAR_FORMAT) + records + tar.padding(len(records))
    main = tar.header(Entry("file", "file", 0o600, 0, "agent", "agent"))
    with pytest.raises(VerificationFailed, match="malformed"):
        list(tar.Reader(iter([data + main + tar.END])))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("plain", b"00  ./plain\n"),
        ("-rf", b"00  ./-rf\n"),
        ("a\nb", b"\\00  ./a\\nb\n"),
        ("a\\b\r", b"\\00  ./a\\\\b\\r\n"),
        ("\udcff", b"00  ./\xff\n"),
    ],
)
def test_checksums_escape_names_as_sha256sum_does(path: str, expected: bytes) -> None:
    """Newlines, carriage returns and backslashes are escaped and marked; other bytes stay as they are."""
    assert line(Entry(path, "file", 0, 0, "", "", sha256="00")) == expected


def test_a_sealed_object_opens_with_its_identity_only(tmp_path: Path) -> None:
    """A manifest is unreadable without the identity, and comes back whole with it."""
    key, path = pyrage.x25519.Identity.generate(), tmp_path / "identity"
    path.write_text(str(key), encoding="ascii")
    data = b'{"path": "secret.json"}' * 1000
    sealed = seal(data, str(key.to_public()))
    assert unseal([sealed], identity=path) == data
    assert unseal([seal(data, None)], identity=None) == data
    with pytest.raises(UsageError, match="is encrypted"):
        unseal([sealed], identity=None)
    with pytest.raises(VerificationFailed):
        unseal([sealed[:-1]], identity=path)
    with pytest.raises(VerificationFailed, match="ends early"):
        unseal([seal(data, None)[:-1]], identity=None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "can't read the identity"),
        ("age1public", "contains no age secret key"),
        ("AGE-SECRET-KEY-1XYZ", "malformed age secret key"),
    ],
)
def test_a_useless_identity_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    """A missing file, a public key and a damaged key are told apart. The key itself is not shown."""
    path = tmp_path / "identity"
    if content is not None:
        path.write_text(content, encoding="ascii")
    sealed = seal(b"data", str(pyrage.x25519.Identity.generate().to_public()))
    with pytest.raises(UsageError, match=message) as caught:
        unseal([sealed], identity=path)
    assert str(path) in str(caught.value)
    assert "1XYZ" not in str(caught.value)
