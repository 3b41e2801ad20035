"""age encryption and zstd compression, as streams and for small objects."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from swarm.errors import SwarmError, UsageError, VerificationFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

__all__ = ["compressor", "decoded", "encrypt", "seal", "unseal"]

_MAGIC = b"age-encryption.org/v1"
_WINDOW_LOG = 25  # 32 MiB: the most memory that a frame may ask for
_CHUNK = 1 << 20
_JOB = 2 << 20  # bytes that one thread compresses at a time; the default of 8 MiB takes 64 MiB more memory
_MANIFEST = 1 << 30  # bytes of the largest manifest that is read


class _Source:
    """The file that age reads: chunks, of which each read takes as many bytes as it asks for."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._chunk, self._at = chunks, b"", 0
        self.error: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            while self._at == len(self._chunk):
                self._chunk, self._at = next(self._chunks), 0
        except StopIteration:
            return b""
        except BaseException as error:
            self.error = error
            raise
        part = self._chunk[self._at : self._at + size] if size >= 0 else self._chunk[self._at :]
        self._at += len(part)
        return part


class _Drain:
    """The file that age writes."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        try:
            self._take(data)
        except BaseException as error:
            self.error = error
            raise
        return len(data)

    def flush(self) -> None:
        """Do nothing: every write is passed on at once."""


def encrypt(chunks: Iterator[bytes], take: Callable[[bytes], None], recipient: str) -> None:
    """Encrypt chunks to an age public key. Errors of either end are raised as they are."""
    import pyrage

    try:
        public = pyrage.x25519.Recipient.from_str(recipient)
    except pyrage.RecipientError:
        raise UsageError("backup.recipient is not an age public key", "run inv backup.key") from None
    source, drain = _Source(chunks), _Drain(take)
    try:
        pyrage.encrypt_io(source, drain, [public])
    except Exception as error:  # noqa: BLE001 - age wraps the errors of both ends
        raise source.error or drain.error or SwarmError(f"age can't encrypt the archive ({error})") from None


def compressor(level: int, workers: int) -> Any:  # noqa: ANN401 - the type is imported with the library
    """Return a zstd compressor whose frames carry a checksum."""
    from backports import zstd

    parameter = zstd.CompressionParameter
    options: dict[int, int] = {
        parameter.compression_level: level,
        parameter.checksum_flag: 1,
        parameter.nb_workers: workers,
    }
    if workers:
        options[parameter.job_size] = _JOB
    return zstd.ZstdCompressor(options=options)


def decoded(
    chunks: Iterable[bytes],
    take: Callable[[bytes], None],
    *,
    identity: Path | None,
    recipient: str | None = None,
) -> None:
    """Decrypt if needed, decompress, and pass on pieces of at most 1 MiB. `recipient` is named in errors.

    Raise EOFError if the data ends early, VerificationFailed if it is damaged and UsageError for a wrong identity.
    """
    source = iter(chunks)
    first = _first(source)
    decompress = _Decompress(take)
    if first.startswith(_MAGIC):
        _decrypt(_joined(first, source), decompress, identity, recipient)
    else:
        for chunk in _joined(first, source):
            decompress(chunk)
    decompress.finish()


def _first(source: Iterator[bytes]) -> bytes:
    first = b""
    for chunk in source:
        first += chunk
        if len(first) >= len(_MAGIC):
            break
    return first


def _joined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


class _Decompress:
    """Decompresses exactly one frame and bounds the memory that it needs."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        from backports import zstd

        self._error = zstd.ZstdError
        limit: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
        self._frame, self._take = zstd.ZstdDecompressor(options=limit), take

    def __call__(self, data: bytes) -> None:
        if not data:
            return
        try:
            self._feed(data)
        except (self._error, EOFError) as error:
            raise VerificationFailed(f"the archive is damaged (zstd: {error})") from None

    def _feed(self, data: bytes) -> None:
        while True:
            if part := self._frame.decompress(data, _CHUNK):
                self._take(part)
            data = b""
            if self._frame.eof:
                if self._frame.unused_data:
                    raise VerificationFailed("the archive is damaged: data follows its end")
                return
            if self._frame.needs_input:
                return

    def finish(self) -> None:
        """Raise EOFError if the frame is not complete."""
        if not self._frame.eof:
            raise EOFError


def _decrypt(
    chunks: Iterator[bytes], take: Callable[[bytes], None], identity: Path | None, recipient: str | None
) -> None:
    import pyrage

    needed = f" to {recipient}" if recipient else ""
    if identity is None:
        raise UsageError(f"the archive is encrypted{needed}", "pass the file of the secret key as --identity")
    keys = _identities(identity)
    source, drain = _Source(chunks), _Drain(take)
    try:
        pyrage.decrypt_io(source, drain, keys)
    except Exception as error:  # noqa: BLE001 - age raises several kinds, and wraps those of both ends
        if raised := source.error or drain.error:
            raise raised from None
        if "No matching keys" in str(error):
            owned = ", ".join(str(key.to_public()) for key in keys)
            raise UsageError(
                f"{identity} can't decrypt the archive, which is encrypted{needed or ' to another key'}",
                f"{identity} belongs to {owned}; pass the right file as --identity",
            ) from None
        raise VerificationFailed(f"the archive is damaged or ends early (age: {str(error)[:100]})") from None


def _identities(path: Path) -> list[Any]:
    import pyrage

    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError as error:
        raise UsageError(f"can't read the identity {path}: {error.strerror}") from None
    keys = [line.strip() for line in lines if re.match(r"\s*AGE-SECRET-KEY-1", line)]
    if not keys:
        raise UsageError(f"{path} contains no age secret key", "a secret key starts with AGE-SECRET-KEY-1")
    try:
        return [pyrage.x25519.Identity.from_str(key) for key in keys]
    except pyrage.IdentityError:
        raise UsageError(f"{path} contains a malformed age secret key") from None


def seal(data: bytes, recipient: str | None) -> bytes:
    """Compress a small object and encrypt it if there is a recipient."""
    frame: bytes = (compressing := compressor(9, 0)).compress(data) + compressing.flush()
    if recipient is None:
        return frame
    parts: list[bytes] = []
    encrypt(iter([frame]), parts.append, recipient)
    return b"".join(parts)


def unseal(chunks: Iterable[bytes], *, identity: Path | None, recipient: str | None = None) -> bytes:
    """Return what seal() was given. Raise VerificationFailed if it is damaged, cut short or too large."""
    parts: list[bytes] = []
    size = 0

    def take(part: bytes) -> None:
        nonlocal size
        size += len(part)
        if size > _MANIFEST:
            raise VerificationFailed("the manifest is too large")
        parts.append(part)

    try:
        decoded(chunks, take, identity=identity, recipient=recipient)
    except EOFError:
        raise VerificationFailed("the manifest ends early") from None
    return b"".join(parts)
