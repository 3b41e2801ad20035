"""A bounded pipe between two threads of one pipeline. An error on either side ends both."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Pipe", "Worker"]

_LIMIT = 4 << 20  # bytes that wait for the reader


class Pipe:
    """Passes chunks of bytes from one thread to another. The writer waits while too many of them are pending."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._chunks: deque[bytes] = deque()
        self._pending = 0
        self._closed = False
        self._changed = threading.Condition()
        self._rest = b""
        self.error: BaseException | None = None

    def put(self, chunk: bytes) -> None:
        """Pass a chunk on. Raise the error that ended the pipeline."""
        with self._changed:
            while self._pending >= self._limit and not self.error:
                self._changed.wait()
            if self.error:
                raise self.error
            self._chunks.append(chunk)
            self._pending += len(chunk)
            self._changed.notify_all()

    def close(self) -> None:
        """Tell the reader that no more chunks follow."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """End both sides. The first error counts."""
        with self._changed:
            self.error = self.error or error
            self._changed.notify_all()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                while not self._chunks and not self._closed and not self.error:
                    self._changed.wait()
                if self.error:
                    raise self.error
                if not self._chunks:
                    return
                chunk = self._chunks.popleft()
                self._pending -= len(chunk)
                self._changed.notify_all()
            yield chunk


class Worker(threading.Thread):
    """Runs one stage of a pipeline. If the stage raises, every pipe given is ended with that error."""

    def __init__(self, stage: Callable[[], None], *pipes: Pipe) -> None:
        super().__init__(daemon=True)
        self._stage, self._pipes = stage, pipes
        self.start()

    def run(self) -> None:
        """Run the stage."""
        try:
            self._stage()
        except BaseException as error:  # noqa: BLE001 - raised again by whoever uses the pipe
            for pipe in self._pipes:
                pipe.fail(error)
