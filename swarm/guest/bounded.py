"""Run a local program whose output comes from a guest, and read no more of it than anybody needs."""

from __future__ import annotations

import os
import selectors
import subprocess
from dataclasses import dataclass

__all__ = ["LONGEST", "Output", "TooLong", "run"]

# Bytes of both streams together. A guest's longest answer, the list of certificate authorities, takes 300 KiB.
LONGEST = 4 << 20
_CHUNK = 1 << 16  # bytes of one read: what a pipe holds


class TooLong(Exception):
    """A program has printed more than LONGEST bytes. It was killed."""


@dataclass(frozen=True)
class Output:
    """How a program has ended, and what it printed."""

    code: int
    out: bytes
    err: bytes


def run(command: bytes) -> Output:
    """Run a line of shell without input. Raise TooLong if it prints too much."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        ["/bin/sh", "-c", b"exec " + command], stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, bufsize=0
    ) as process:
        try:
            found = _read(process)
            return Output(process.wait(), *found)
        finally:
            process.kill()  # does nothing to one that has ended


def _read(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    assert process.stdout is not None  # noqa: S101 - both are pipes
    assert process.stderr is not None  # noqa: S101
    out, err = bytearray(), bytearray()
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ, out)
        ready.register(process.stderr, selectors.EVENT_READ, err)
        while ready.get_map():
            for key, _ in ready.select():
                data = os.read(key.fd, _CHUNK)
                key.data.extend(data)
                if not data:
                    ready.unregister(key.fileobj)
            if len(out) + len(err) > LONGEST:
                raise TooLong
    return bytes(out), bytes(err)
