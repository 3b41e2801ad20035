"""Download a published image. Resume and retry, and accept the file only if it matches the publisher's checksum.

An unfinished download consists of two files: NAME.part with the bytes so far, and NAME.part.json, the claim,
which describes their source. The claim is deleted before NAME.part is emptied, and written before NAME.part
grows. A kill at any moment therefore leaves either a correct claim or none. The claim of a complete file stays until
`settle` finds that the file has been moved or deleted, so no run downloads it again.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError, NameResolutionError, ReadTimeoutError

from swarm.errors import ImageError
from swarm.images import checksums
from swarm.images.cache import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from swarm.console import Meter, Talk
    from swarm.images.catalogue import Entry

__all__ = ["Patience", "fetch", "settle"]

_CHUNK = 1 << 20
_MIB = 1 << 20
_CHECKSUMS_LIMIT = 4 << 20  # bytes; publishers' checksum files have some kilobytes
_RESUME = "run the same command again: the download continues where it stopped"
_OFFLINE = "check this machine's network, or use the image 'built', which needs only the package mirror"
_NUMBER = "[0-9]{1,18}"  # of bytes
_PARTIAL, _OK, _UNSATISFIABLE = 206, 200, 416
# Status codes of a busy server or proxy, which are worth a retry. All others from 400 are permanent.
_TRANSIENT = {408, _UNSATISFIABLE, 425, 429, 500, 502, 503, 504}

_T = TypeVar("_T")


@dataclass(frozen=True)
class Patience:
    """Timeouts and retries. All times are in seconds.

    `connect` is the timeout for connecting and `silence` the timeout for receiving. Give up after `tries`
    consecutive attempts without new bytes, or after `first_tries` if the server has not responded at all. The
    delay between attempts doubles from `pause` up to `longest`.
    """

    connect: float = 10
    silence: float = 30
    tries: int = 6
    first_tries: int = 2
    pause: float = 1
    longest: float = 30


@dataclass(frozen=True)
class _Claim:
    """The source of the bytes in a partial file."""

    url: str
    checksum: str
    validator: str
    total: int | None


class _Retry(Exception):
    """A transient failure. `wait` is the delay that the server requested, in seconds."""

    def __init__(self, reason: str, wait: float = 0) -> None:
        super().__init__(reason)
        self.wait = wait


def fetch(entry: Entry, part: Path, talk: Talk, patience: Patience | None = None) -> Path:
    """Download `entry` into `part`, resuming an earlier download. Return `part` when its checksum matches.

    The caller must hold the image's lock, and call settle() afterwards. Raise ImageError for every failure. Bytes that
    the next run can use are kept; wrong bytes are deleted.
    """
    with requests.Session() as session:
        session.headers.update({"User-Agent": "swarm", "Accept-Encoding": "identity"})
        return _Download(entry, part, talk, session, patience or Patience()).run()


def settle(part: Path) -> None:
    """Delete the claim of `part` if that file is gone."""
    if not part.exists():
        _claims(part).unlink(missing_ok=True)


class _Download:
    def __init__(
        self, entry: Entry, part: Path, talk: Talk, session: requests.Session, patience: Patience
    ) -> None:
        self.entry, self.part, self.talk, self.session, self.patience = entry, part, talk, session, patience
        self.claims = _claims(part)
        self.answered = False

    def run(self) -> Path:
        with self.talk.step(f"downloading image {self.entry.name}") as meter:
            wanted = self._with_retries(meter, self._checksum)
            while True:
                claim = self._claim()
                if claim and (claim.url != self.entry.url or claim.checksum != wanted):
                    self._discard()
                self._with_retries(meter, lambda checksum=wanted: self._bytes(checksum, meter))  # type: ignore[misc]
                meter.note("checking")
                if digest(self.part, self.entry.algorithm, meter) == wanted:
                    return self.part
                self._discard()
                newer = self._with_retries(meter, self._checksum)
                if newer == wanted:
                    raise ImageError(
                        f"image {self.entry.name} is damaged and was deleted: "
                        f"its {self.entry.algorithm} is not the publisher's",
                        "run the same command again; if it happens again, a proxy may be changing the file",
                    )
                self.talk.say(
                    f"the publisher has replaced image {self.entry.name} during the download: starting over"
                )
                wanted = newer

    def _with_retries(self, meter: Meter, attempt: Callable[[], _T]) -> _T:
        """Repeat `attempt` until it succeeds. Give up after too many consecutive failures without new bytes."""
        failures, size = 0, self._size()
        while True:
            try:
                return attempt()
            except _Retry as problem:
                failures = 1 if self._size() > size else failures + 1
                size = self._size()
                if failures >= (self.patience.tries if self.answered else self.patience.first_tries):
                    raise ImageError(
                        f"image {self.entry.name} cannot be downloaded: {problem}",
                        _RESUME if self.answered else _OFFLINE,
                    ) from None
                wait = min(
                    self.patience.longest, max(problem.wait, self.patience.pause * 2 ** (failures - 1))
                )
                meter.note(f"{problem}; retrying in {wait:.0f} s")
                time.sleep(wait)

    def _checksum(self) -> str:
        """Return the checksum that the publisher currently states for the image."""
        address = self.entry.checksums
        with self._get(address, {}) as answer:
            if answer.status_code != _OK:
                raise self._refusal(answer)
            hops = [urlsplit(hop.url).scheme for hop in (*answer.history, answer)]
            if hops[0] == "https" and set(hops) != {"https"}:  # whoever is on one hop can choose the next
                raise ImageError(
                    f"{urlsplit(address).hostname} redirects the checksum file to an unencrypted URL",
                    "try again later",
                )
            text = b""
            while (block := self._read(answer)) and len(text) < _CHECKSUMS_LIMIT:
                text += block
        return checksums.expected(
            text.decode(errors="replace"), self.entry.url.rsplit("/", 1)[1], self.entry.algorithm
        )

    def _bytes(self, checksum: str, meter: Meter) -> None:
        """Append the bytes of one connection to the partial file. Raise `_Retry` if bytes are still missing."""
        claim, size = self._claim(), self._size()
        if claim and size == claim.total:
            return
        resume = (
            {"Range": f"bytes={size}-", "If-Range": claim.validator}
            if claim and claim.validator and size
            else {}
        )
        with self._get(self.entry.url, resume) as answer:
            if claim and resume and answer.status_code == _PARTIAL:
                start, total = _content_range(answer)
                if (
                    start != size
                    or claim.total not in {None, total}
                    or _validator(answer) not in {"", claim.validator}
                ):
                    self._discard()
                    raise _Retry("the server sent a different range of the file than requested")
                self.talk.say(f"resuming the download of image {self.entry.name} at {size / _MIB:.0f} MiB")
            elif resume and answer.status_code == _UNSATISFIABLE:
                if _content_range(answer)[1] == size:
                    return  # complete: the server did not state the length before
                self._discard()
                raise _Retry("the file on the server is shorter than the part downloaded before")
            elif answer.status_code == _OK:
                size, total = 0, _length(answer)
                self._discard()
                self._write_claim(_Claim(self.entry.url, checksum, _validator(answer), total))
            else:
                raise self._refusal(answer)
            self._append(answer, size, total, meter)
        if total is None and digest(self.part, self.entry.algorithm) != checksum:
            raise _Retry("the connection ended early, and the server does not state the length of the file")

    def _append(self, answer: requests.Response, size: int, total: int | None, meter: Meter) -> None:
        free = shutil.disk_usage(self.part.parent).free
        if total is not None and total - size > free:
            raise self._no_space(
                f"needs {(total - size) / _MIB:.1f} MiB more, and {self.part.parent} has {free / _MIB:.1f} MiB free"
            )
        try:
            with open(self.part, "ab", opener=_private) as file:
                while block := self._read(answer):
                    file.write(block)
                    file.flush()
                    size += len(block)
                    meter.advance(size, total)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise self._no_space(f"does not fit: {self.part.parent} is full") from None
            raise ImageError(f"image {self.entry.name} cannot be stored: {error}") from None
        if total is not None and size < total:
            raise _Retry("the connection ended early")

    @contextmanager
    def _get(self, address: str, headers: dict[str, str]) -> Iterator[requests.Response]:
        """Request a URL. Raise `_Retry` for transient failures and `ImageError` for permanent ones."""
        host = urlsplit(address).hostname
        try:
            answer = self.session.get(
                address, headers=headers, stream=True, timeout=(self.patience.connect, self.patience.silence)
            )
        except requests.exceptions.SSLError as error:
            raise ImageError(
                f"the TLS certificate of {host} cannot be verified: {_reason(error)}",
                "check this machine's clock, its package ca-certificates and its proxy",
            ) from None
        except requests.Timeout:
            raise _Retry(f"{host} did not respond in time") from None
        except requests.ConnectionError as error:
            raise _Retry(
                f"the name {host} cannot be resolved"
                if _is_dns(error)
                else f"{host} cannot be reached: {_reason(error)}"
            ) from None
        except (requests.RequestException, ValueError) as error:  # the latter for some redirects to no URL
            raise ImageError(f"{address} cannot be fetched: {error}") from None
        self.answered = True
        with answer:
            yield answer

    @staticmethod
    def _read(answer: requests.Response) -> bytes:
        """Return the bytes that have arrived, or none at the end. Raise `_Retry` if the connection breaks."""
        try:
            # requests' iter_content would lose the bytes since its last complete block.
            block: bytes = answer.raw.read1(_CHUNK, decode_content=False)
        except ReadTimeoutError:
            raise _Retry("the server stopped sending") from None
        except HTTPError:
            raise _Retry("the connection broke") from None
        return block

    def _refusal(self, answer: requests.Response) -> Exception:
        status, host = answer.status_code, urlsplit(answer.url).hostname
        if status in _TRANSIENT:
            asked = answer.headers.get("Retry-After", "")
            return _Retry(
                f"{host} responded with {status} {answer.reason}", float(asked) if asked.isdecimal() else 0
            )
        hint = (
            "the publisher may have moved the image: update swarm"
            if status in {404, 410}
            else "check the proxy, if there is one, and try again later"
        )
        return ImageError(
            f"{answer.url} cannot be fetched: {host} responded with {status} {answer.reason}", hint
        )

    def _no_space(self, what: str) -> ImageError:
        return ImageError(
            f"image {self.entry.name} {what}",
            "make room, or move the cache with SWARM_CACHE; the bytes downloaded so far are kept",
        )

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _claim(self) -> _Claim | None:
        try:
            return _Claim(**json.loads(self.claims.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _write_claim(self, claim: _Claim) -> None:
        new = self.claims.with_name(f"{self.claims.name}.new")
        new.write_text(json.dumps(asdict(claim)), encoding="utf-8")
        new.replace(self.claims)

    def _discard(self) -> None:
        self.claims.unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)


def _claims(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _private(path: str, flags: int) -> int:
    """Open a file that, if it is new, only its owner may write or read."""
    return os.open(path, flags, 0o600)


def _length(answer: requests.Response) -> int | None:
    stated = answer.headers.get("Content-Length", "")
    return int(stated) if re.fullmatch(_NUMBER, stated) else None


def _content_range(answer: requests.Response) -> tuple[int | None, int | None]:
    """Return the start of the range and the length of the whole file, as far as `Content-Range` states them."""
    pattern = rf"bytes (?:({_NUMBER})-{_NUMBER}|\*)/({_NUMBER}|\*)"
    match = re.fullmatch(pattern, answer.headers.get("Content-Range", ""))
    start, total = match.groups() if match else (None, None)
    return (int(start) if start else None), (int(total) if total and total != "*" else None)


def _validator(answer: requests.Response) -> str:
    """Return the value for If-Range: a strong ETag, else the Last-Modified date (RFC 9110, 13.1.5)."""
    tag = answer.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")


def _is_dns(error: requests.ConnectionError) -> bool:
    return isinstance(getattr(error.args[0] if error.args else None, "reason", None), NameResolutionError)


def _reason(error: requests.ConnectionError) -> str:
    """Return the innermost message of an error that wraps others."""
    reason = getattr(error.args[0] if error.args else None, "reason", error)
    return str(reason).rsplit(": ", 1)[-1].strip("()'\"> ")
