"""Fetches a published image: resumed after a break, retried, and trusted only when the publisher's checksum says so.

Two files hold a download that is under way: NAME.part with the bytes so far, and NAME.part.json with what
they are bytes of. The second is removed before the first is emptied and written before the first grows, so
that a kill at any moment leaves either both in step or no claim at all.
"""

from __future__ import annotations

import errno
import json
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

__all__ = ["Patience", "fetch"]

_CHUNK = 1 << 20
_MIB = 1 << 20
# A checksum file of a publisher is some kilobytes long.
_CHECKSUMS_LIMIT = 4 << 20
_AGAIN = "run the same command again: it goes on where it stopped"
_OFFLINE = "is this machine online? The image 'built' needs nothing but the package mirror"
_PARTIAL, _OK, _UNSATISFIABLE = 206, 200, 416
# What a busy server or a proxy on the way answers; all else from 400 on will not change by asking again.
_PASSING = {408, _UNSATISFIABLE, 425, 429, 500, 502, 503, 504}

_T = TypeVar("_T")


@dataclass(frozen=True)
class Patience:
    """How long to try, times in seconds.

    `connect` and `silence` end a connection that does not come about or brings nothing. `tries` in a row may
    bring nothing new before it is given up, `first_tries` if the server has never answered in this run; the
    pause between them doubles from `pause` up to `longest`.
    """

    connect: float = 10
    silence: float = 30
    tries: int = 6
    first_tries: int = 2
    pause: float = 1
    longest: float = 30


@dataclass(frozen=True)
class _Claim:
    """What the bytes of a partial file are part of."""

    url: str
    checksum: str
    validator: str
    total: int | None


class _Again(Exception):
    """Something that may pass; `wait` is what the server asked for, in seconds."""

    def __init__(self, reason: str, wait: float = 0) -> None:
        super().__init__(reason)
        self.wait = wait


def fetch(entry: Entry, part: Path, talk: Talk, patience: Patience | None = None) -> Path:
    """Download `entry` into `part`, continuing an earlier download, and return `part` once its checksum matches.

    The caller holds the image's lock. Raise ImageError with one sentence and a hint for everything that goes
    wrong; bytes that may be of use stay for the next run, bytes that are wrong are thrown away.
    """
    with requests.Session() as session:
        session.headers.update({"User-Agent": "swarm", "Accept-Encoding": "identity"})
        return _Download(entry, part, talk, session, patience or Patience()).run()


class _Download:
    def __init__(
        self, entry: Entry, part: Path, talk: Talk, session: requests.Session, patience: Patience
    ) -> None:
        self.entry, self.part, self.talk, self.session, self.patience = entry, part, talk, session, patience
        self.claims = part.with_name(f"{part.name}.json")
        self.answered = False

    def run(self) -> Path:
        with self.talk.step(f"downloading image {self.entry.name}") as meter:
            wanted = self._patiently(meter, self._checksum)
            while True:
                claim = self._claim()
                if claim and (claim.url != self.entry.url or claim.checksum != wanted):
                    self._discard()
                self._patiently(meter, lambda checksum=wanted: self._bytes(checksum, meter))  # type: ignore[misc]
                meter.note("checking")
                if digest(self.part, self.entry.algorithm, meter) == wanted:
                    self.claims.unlink(missing_ok=True)
                    return self.part
                self._discard()
                newer = self._patiently(meter, self._checksum)
                if newer == wanted:
                    raise ImageError(
                        f"image {self.entry.name} is damaged and was deleted: "
                        f"its {self.entry.algorithm} is not the publisher's",
                        "run the same command again; if it happens again, a proxy may be changing the file",
                    )
                self.talk.say(f"the publisher has replaced image {self.entry.name} meanwhile: starting over")
                wanted = newer

    def _patiently(self, meter: Meter, attempt: Callable[[], _T]) -> _T:
        """Do `attempt` until it works, or has failed too often in a row without bringing new bytes."""
        failures, size = 0, self._size()
        while True:
            try:
                return attempt()
            except _Again as problem:
                failures = 1 if self._size() > size else failures + 1
                size = self._size()
                if failures >= (self.patience.tries if self.answered else self.patience.first_tries):
                    raise ImageError(
                        f"image {self.entry.name} cannot be downloaded: {problem}",
                        _AGAIN if self.answered else _OFFLINE,
                    ) from None
                wait = min(
                    self.patience.longest, max(problem.wait, self.patience.pause * 2 ** (failures - 1))
                )
                meter.note(f"{problem}; trying again in {wait:.0f} s")
                time.sleep(wait)

    def _checksum(self) -> str:
        """The checksum that the publisher states for the image now."""
        address = self.entry.checksums
        with self._get(address, {}) as answer:
            if answer.status_code != _OK:
                raise self._refusal(answer)
            if urlsplit(address).scheme == "https" and urlsplit(answer.url).scheme != "https":
                raise ImageError(
                    f"{urlsplit(address).hostname} leads to an unencrypted checksum file, which would prove nothing",
                    "try again later",
                )
            text = b""
            while (block := self._read(answer)) and len(text) < _CHECKSUMS_LIMIT:
                text += block
        return checksums.expected(
            text.decode(errors="replace"), self.entry.url.rsplit("/", 1)[1], self.entry.algorithm
        )

    def _bytes(self, checksum: str, meter: Meter) -> None:
        """One connection: add to the partial file what it brings. Raise _Again if bytes are missing after it."""
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
                    raise _Again("the server sent another part of the file than it was asked for")
                self.talk.say(f"going on with image {self.entry.name} at {size / _MIB:.0f} MiB")
            elif resume and answer.status_code == _UNSATISFIABLE:
                if _content_range(answer)[1] == size:
                    return  # the server never said how long the file is; now it has: there is no more
                self._discard()
                raise _Again("the file at the server is shorter than what came of it before")
            elif answer.status_code == _OK:
                size, total = 0, _length(answer)
                self._discard()
                self._write_claim(_Claim(self.entry.url, checksum, _validator(answer), total))
            else:
                raise self._refusal(answer)
            self._append(answer, size, total, meter)
        if total is None and digest(self.part, self.entry.algorithm) != checksum:
            raise _Again("the connection ended, and the server does not say how long the file is")

    def _append(self, answer: requests.Response, size: int, total: int | None, meter: Meter) -> None:
        free = shutil.disk_usage(self.part.parent).free
        if total is not None and total - size > free:
            raise self._no_space(
                f"needs {(total - size) / _MIB:.1f} MiB more, and {self.part.parent} has {free / _MIB:.1f} MiB free"
            )
        try:
            with self.part.open("ab") as file:
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
            raise _Again("the connection ended early")

    @contextmanager
    def _get(self, address: str, headers: dict[str, str]) -> Iterator[requests.Response]:
        """Ask for an address. Raise _Again for what may pass and ImageError for what will not."""
        host = urlsplit(address).hostname
        try:
            answer = self.session.get(
                address, headers=headers, stream=True, timeout=(self.patience.connect, self.patience.silence)
            )
        except requests.exceptions.SSLError as error:
            raise ImageError(
                f"{host} cannot prove who it is: {_reason(error)}",
                "look at this machine's clock, its package ca-certificates and its proxy",
            ) from None
        except requests.Timeout:
            raise _Again(f"{host} does not answer") from None
        except requests.ConnectionError as error:
            raise _Again(
                f"the name {host} cannot be resolved"
                if _is_dns(error)
                else f"{host} cannot be reached: {_reason(error)}"
            ) from None
        except requests.RequestException as error:
            raise ImageError(f"{address} cannot be fetched: {error}") from None
        self.answered = True
        with answer:
            yield answer

    @staticmethod
    def _read(answer: requests.Response) -> bytes:
        """The next bytes, as many as are there; none at the end. Raise _Again if the connection breaks."""
        try:
            # requests' own iter_content would lose what came since its last whole block.
            block: bytes = answer.raw.read1(_CHUNK, decode_content=False)
        except ReadTimeoutError:
            raise _Again("the server has gone silent") from None
        except HTTPError:
            raise _Again("the connection broke") from None
        return block

    def _refusal(self, answer: requests.Response) -> Exception:
        status, host = answer.status_code, urlsplit(answer.url).hostname
        if status in _PASSING:
            asked = answer.headers.get("Retry-After", "")
            return _Again(
                f"{host} answers {status} {answer.reason}", float(asked) if asked.isdecimal() else 0
            )
        hint = (
            "the publisher may have moved the image; a newer swarm may know"
            if status in {404, 410}
            else "look at the proxy, if there is one, and try again later"
        )
        return ImageError(f"{answer.url} cannot be fetched: {host} answers {status} {answer.reason}", hint)

    def _no_space(self, what: str) -> ImageError:
        return ImageError(
            f"image {self.entry.name} {what}",
            "make room, or move the cache with SWARM_CACHE; what came so far is kept",
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


def _length(answer: requests.Response) -> int | None:
    stated = answer.headers.get("Content-Length", "")
    return int(stated) if stated.isdecimal() else None


def _content_range(answer: requests.Response) -> tuple[int | None, int | None]:
    """Where the answer's bytes begin and how long the whole file is, as far as `Content-Range` says so."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", answer.headers.get("Content-Range", ""))
    start, total = match.groups() if match else (None, None)
    return (int(start) if start else None), (int(total) if total and total != "*" else None)


def _validator(answer: requests.Response) -> str:
    """What If-Range may be given: a strong ETag, else the date of the last change (RFC 9110, 13.1.5)."""
    tag = answer.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")


def _is_dns(error: requests.ConnectionError) -> bool:
    return isinstance(getattr(error.args[0] if error.args else None, "reason", None), NameResolutionError)


def _reason(error: requests.ConnectionError) -> str:
    """The innermost words of an error that wraps others."""
    reason = getattr(error.args[0] if error.args else None, "reason", error)
    return str(reason).rsplit(": ", 1)[-1].strip("()'\"> ")
