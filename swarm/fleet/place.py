"""Put a host file in place: checked first, complete or not at all, and never over another one."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.errors import InventoryError, Refused
from swarm.files import private_dir
from swarm.inventory import load_draft
from swarm.inventory.checks import file_of
from swarm.inventory.document import HOST_FILE, short
from swarm.locks import hold
from swarm.paths import hosts_dir, state_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.console import Talk
    from swarm.inventory import Host

__all__ = ["alone", "checked", "present", "put"]


@contextmanager
def alone(talk: Talk) -> Iterator[None]:
    """Keep other processes from choosing the same addresses during the block."""
    path = private_dir(state_dir()) / "fleet.lock"
    with hold(path, waiting=lambda: talk.step("waiting for another run that changes the host files")):
        yield


def present(name: str) -> str | None:
    """Return the text of hosts/NAME.yaml; None if there is none. What can't be read is present, with no text."""
    path = file_of(name)
    if not os.path.lexists(path):
        return None
    if not path.is_file() or path.stat().st_size > HOST_FILE.limit:
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def checked(name: str, text: str) -> Host:
    """Return the host that `text` describes. Raise InventoryError if the file would be invalid. Nothing is left."""
    with _scratch(name, text) as scratch:
        return _load(name, scratch)


def put(name: str, text: str) -> Host:
    """Write hosts/NAME.yaml after checking it. Raise InventoryError, or Refused if the file exists."""
    with _scratch(name, text) as scratch:
        host = _load(name, scratch)
        with suppress(OSError):  # a file system without hard links, or the file exists
            os.link(scratch, file_of(name))  # unlike a rename, this never replaces a file
            return host
        if os.path.lexists(file_of(name)):
            raise Refused(f"{short(file_of(name))} exists; nothing was changed", "edit that file")
        os.replace(scratch, file_of(name))  # noqa: PTH105 - the scratch file's own name is cleaned up below
        return host


@contextmanager
def _scratch(name: str, text: str) -> Iterator[Path]:
    """Give a file with `text`, hidden from `names()`, during the block."""
    hosts_dir().mkdir(parents=True, exist_ok=True)
    descriptor, path = tempfile.mkstemp(prefix=f".{name}.", dir=hosts_dir())
    scratch = Path(path)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


def _load(name: str, scratch: Path) -> Host:
    try:
        return load_draft(name, scratch)
    except InventoryError as error:
        # The person knows the file by the name that it would have.
        message = error.message.replace(short(scratch), short(file_of(name)))
        raise InventoryError(f"no host file was written: {message}", error.hint) from None
