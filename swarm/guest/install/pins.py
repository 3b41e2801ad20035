"""The checksums of OpenClaw's releases, as first seen from this machine.

npm and pnpm compare an archive with the checksum that the registry states. That finds damage, but not a registry that
gives out another archive than yesterday, or than to the host beside. So the first checksum of each release is kept
here, and every later installation, on any host, must have the same.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from swarm.errors import Refused, VerificationFailed
from swarm.files import private_dir, write_atomically
from swarm.locks import hold
from swarm.paths import state_dir

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["INTEGRITY", "foreign", "known", "learn", "path"]

INTEGRITY = re.compile(r"sha512-[A-Za-z0-9+/]{86}==")  # 64 bytes in base64
_SHOWN = 20  # characters of a checksum in a message; enough to find it in the file
_RECORDED = re.compile(
    r"^version (\d[0-9A-Za-z.+-]{0,63})$.*?^integrity (\S{1,128})$", re.MULTILINE | re.DOTALL
)


def path() -> Path:
    """Return the file that holds the checksums, by PACKAGE@VERSION."""
    return state_dir() / "packages.json"


def known() -> dict[str, str]:
    """Return the checksums that were seen before. Raise Refused if the file is damaged."""
    try:
        found = json.loads(path().read_text(encoding="utf-8"))
        if all(INTEGRITY.fullmatch(value) for value in found.values()):
            return dict(found)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, AttributeError, TypeError):
        pass
    hint = f"to trust the next installation instead: rm {path()}"
    raise Refused(f"{path()} does not hold checksums of packages", hint)


def foreign(release: str, integrity: str, pins: Mapping[str, str]) -> str | None:
    """Return why a release with this checksum is not to be installed, or None."""
    if pins.get(release, integrity) == integrity:
        return None
    now, first = (each if len(each) <= _SHOWN else f"{each[:_SHOWN]}…" for each in (integrity, pins[release]))
    what = f"{release} is not the archive that was installed before"
    return f"{what}: its checksum is {now}, not {first}, which {path()} holds"


def learn(host: str, record: str) -> None:
    """Keep the checksum in the text of a guest's record, if its release is new here.

    Raise VerificationFailed if another host has got another archive in the meantime, and Refused as known().
    """
    found = _RECORDED.search(record)
    if not found or not INTEGRITY.fullmatch(found[2]):
        return
    release, integrity = f"openclaw@{found[1]}", found[2]
    private_dir(state_dir())
    with hold(path().with_suffix(".lock")):
        pins = known()
        if reason := foreign(release, integrity, pins):
            hint = "find out which of the two archives is genuine"
            raise VerificationFailed(f"{host}: {reason}", hint)
        if release not in pins:
            write_atomically(path(), json.dumps(pins | {release: integrity}, indent=2) + "\n", mode=0o600)
