"""Write and read pax archives: names as bytes, times to the nanosecond, and only files, directories and links.

Python's tarfile rounds times and takes ten times as long for each member.
"""

from __future__ import annotations

import os
import re
import struct
from functools import lru_cache
from typing import TYPE_CHECKING

from swarm.backup.manifest import Entry
from swarm.errors import VerificationFailed
from swarm.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.backup.manifest import Kind

__all__ = ["BLOCK", "END", "Reader", "header", "padding"]

BLOCK = 512
END = bytes(2 * BLOCK)

_FIELDS = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x")
_TYPES: dict[Kind, bytes] = {"file": b"0", "hard": b"1", "link": b"2", "directory": b"5"}
_KINDS: dict[bytes, Kind] = {kind: name for name, kind in _TYPES.items()}
_NAME, _OWNER, _SIZE = 100, 32, 8 << 30  # what the fields of a plain header can hold
_RECORDS = 1 << 20  # bytes of extended records that are read for one member
_TIME = re.compile(rb"(-?)(\d{1,12})(?:\.(\d{1,9}))?")
_NANO = 10**9


def padding(size: int) -> bytes:
    """Return the zero bytes that follow `size` bytes of data."""
    return bytes(-size % BLOCK)


def header(entry: Entry) -> bytes:
    """Return the blocks that precede a member's data."""
    name = os.fsencode(entry.path) + (b"/" if entry.kind == "directory" else b"")
    target = os.fsencode(entry.target)
    owner, group = os.fsencode(entry.owner), os.fsencode(entry.group)
    seconds, nano = divmod(entry.mtime_ns, _NANO)
    size = entry.size if entry.kind == "file" else 0
    records = b""
    if nano or seconds < 0 or seconds >= _SIZE:
        records = _record(b"mtime", _time(entry.mtime_ns))
    if size >= _SIZE:
        records += _record(b"size", b"%d" % size)
    long = (
        (b"path", name, _NAME),
        (b"linkpath", target, _NAME),
        (b"uname", owner, _OWNER),
        (b"gname", group, _OWNER),
    )
    for key, value, most in long:
        if len(value) > most:
            records += (_record(b"hdrcharset", b"BINARY") if not _is_utf8(value) else b"") + _record(
                key, value
            )
    main = _block(
        name, entry.mode, size if size < _SIZE else 0, seconds if 0 <= seconds < _SIZE else 0,
        _TYPES[entry.kind], target, owner, group,
    )  # fmt: skip
    return _extended(len(records)) + records + padding(len(records)) + main if records else main


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _time(mtime_ns: int) -> bytes:
    seconds, nano = divmod(abs(mtime_ns), _NANO)
    return b"%s%d.%09d" % (b"-" if mtime_ns < 0 else b"", seconds, nano)


def _record(key: bytes, value: bytes) -> bytes:
    """Return one extended record. Its length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) > len(str(rest)):
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


@lru_cache(maxsize=512)
def _extended(size: int) -> bytes:
    return _block(b"PaxHeaders/member", 0o600, size, 0, b"x", b"", b"", b"")


def _block(
    name: bytes, mode: int, size: int, mtime: int, kind: bytes, target: bytes, owner: bytes, group: bytes
) -> bytes:
    zero = b"0000000"
    block = _FIELDS.pack(
        name, b"%07o" % mode, zero, zero, b"%011o" % size, b"%011o" % mtime, b" " * 8, kind, target,
        b"ustar\x0000", owner, group, zero, zero, b"",
    )  # fmt: skip
    total = sum(block.translate(None, b"\0"))  # without the zeros, of which most of a block consists
    return b"%s%06o\0 %s" % (block[:148], total, block[156:])


class Reader:
    """The members of an archive that arrives as chunks.

    Iterating yields an Entry for each member, without its checksum. The data of a file must be read through data()
    before the next one. Raise EOFError if the archive ends early and VerificationFailed if it is malformed.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0

    def __iter__(self) -> Iterator[Entry]:
        while (block := self._exact(BLOCK)) != bytes(BLOCK):
            records: dict[bytes, bytes] = {}
            if _fields(block)[7] == b"x":
                size = _number(_fields(block)[4])
                if size > _RECORDS:
                    raise VerificationFailed("the archive is malformed: its extended records are too large")
                records = _records(self._exact(size))
                self._exact(-size % BLOCK)
                block = self._exact(BLOCK)
            yield _entry(_fields(block), records)
        self._finish()

    def data(self, entry: Entry) -> Iterator[bytes]:
        """Yield the data of a file in chunks of at most 1 MiB."""
        left = entry.size
        while left:
            part = self._some(left)
            left -= len(part)
            yield part
        self._exact(-entry.size % BLOCK)

    def _some(self, most: int) -> bytes:
        while self._at == len(self._chunk):
            self._chunk, self._at = next(self._chunks, b""), 0
            if not self._chunk:
                raise EOFError
        part = self._chunk[self._at : self._at + min(most, 1 << 20)]
        self._at += len(part)
        return part

    def _exact(self, size: int) -> bytes:
        part = self._chunk[self._at : self._at + size]
        self._at += len(part)
        if len(part) == size:
            return part
        parts, left = [part], size - len(part)
        while left:
            parts.append(self._some(left))
            left -= len(parts[-1])
        return b"".join(parts)

    def _finish(self) -> None:
        """Read the rest, which must be zero."""
        rest = self._exact(BLOCK)
        while rest:
            if rest.count(0) != len(rest):
                raise VerificationFailed("the archive is malformed: data follows its end")
            try:
                rest = self._some(1 << 20)
            except EOFError:
                return


def _fields(block: bytes) -> tuple[bytes, ...]:
    fields = _FIELDS.unpack(block)
    if sum(block) - sum(fields[6]) + 8 * 32 != _number(fields[6]):
        raise VerificationFailed("the archive is malformed: the checksum of a header is wrong")
    if fields[9][:6] != b"ustar\0":
        raise VerificationFailed("the archive is malformed: a header is not in POSIX format")
    return fields


def _number(field: bytes) -> int:
    digits = field.strip(b"\0 ") or b"0"
    if not re.fullmatch(
        rb"[0-7]+", digits
    ):  # int() takes signs too, and a negative size would never be read to its end
        raise VerificationFailed("the archive is malformed: a number in a header is wrong")
    return int(digits, 8)


def _records(data: bytes) -> dict[bytes, bytes]:
    records, at = {}, 0
    while at < len(data):
        match = re.compile(rb"(\d{1,7}) ([^=\n]+)=").match(data, at)
        end = at + int(match[1]) if match else 0
        if not match or end > len(data) or end <= match.end() or data[end - 1 : end] != b"\n":
            raise VerificationFailed("the archive is malformed: an extended record is wrong")
        records[match[2]] = data[match.end() : end - 1]
        at = end
    return records


def _entry(fields: tuple[bytes, ...], records: dict[bytes, bytes]) -> Entry:
    name = records.get(b"path") or b"/".join(part for part in (_text(fields[14]), _text(fields[0])) if part)
    path = os.fsdecode(name)
    kind = _KINDS.get(b"0" if fields[7] == b"\0" else fields[7])
    if kind is None or any(key.startswith(b"GNU.sparse") for key in records):
        raise VerificationFailed(
            f"the archive contains {visible(path, lines=False)}, which is no file, directory or link"
        )
    if b"\0" in name:
        raise VerificationFailed(
            f"the archive contains the name {visible(path, lines=False)}, which is invalid"
        )
    return Entry(
        path=path,
        kind=kind,
        mode=_number(fields[1]) & 0o7777,
        mtime_ns=_nanoseconds(records[b"mtime"]) if b"mtime" in records else _number(fields[5]) * _NANO,
        owner=os.fsdecode(records.get(b"uname", _text(fields[10]))),
        group=os.fsdecode(records.get(b"gname", _text(fields[11]))),
        size=_size(fields, records) if kind == "file" else 0,
        target=os.fsdecode(records.get(b"linkpath", _text(fields[8]))) if kind in {"link", "hard"} else "",
    )


def _size(fields: tuple[bytes, ...], records: dict[bytes, bytes]) -> int:
    if (size := records.get(b"size")) is None:
        return _number(fields[4])
    if not re.fullmatch(rb"\d{1,18}", size):
        raise VerificationFailed("the archive is malformed: a size is wrong")
    return int(size)


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _nanoseconds(value: bytes) -> int:
    match = _TIME.fullmatch(value)
    if not match:
        raise VerificationFailed("the archive is malformed: a time is wrong")
    total = int(match[2]) * _NANO + int((match[3] or b"").ljust(9, b"0"))
    return -total if match[1] else total
