"""The port: what every destination of archives can do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

__all__ = ["Destination", "Stored", "Writer"]


@dataclass(frozen=True, order=True)
class Stored:
    """One object of a destination."""

    name: str
    size: int
    modified: datetime


class Writer(Protocol):
    """An object that is being written. It does not exist before commit(). Leaving the block without that aborts it."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""

    def commit(self) -> None:
        """Make the object visible."""

    def abort(self) -> None:
        """Remove what has been written. Do nothing after commit()."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Destination(Protocol):
    """Where archives are stored: a prefix of a bucket, or a directory. `url` is for messages."""

    url: str

    def check(self) -> None:
        """Raise RemoteError or Unfit if the destination does not answer."""

    def objects(self) -> list[Stored]:
        """Return every object, sorted by name. Foreign ones are included."""

    def writer(self, name: str) -> Writer:
        """Begin an object."""

    def put(self, name: str, data: bytes, *, fresh: bool = False) -> None:
        """Store a small object. With `fresh`, raise RemoteError if it exists."""

    def read(self, name: str) -> Iterator[bytes]:
        """Yield an object's content. Raise RemoteError if it is missing or incomplete."""

    def exists(self, name: str) -> bool:
        """Return whether an object exists."""

    def retained(self, name: str) -> datetime | None:
        """Return the time until which an object is locked, or None."""

    def delete(self, name: str) -> datetime | None:
        """Delete an object. If it is locked, keep it and return the time until which it is."""

    def sweep(self, *, age: timedelta = timedelta(days=1)) -> int:
        """Remove unfinished uploads of ours that are older than `age`. Return their number."""
