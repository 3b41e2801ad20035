"""What must hold before anything is changed: the system, its architecture, systemd, and free disk space."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from swarm.guest.install.openclaw import RECORD
from swarm.guest.kinds.commands import check
from swarm.templates import render

if TYPE_CHECKING:
    from swarm.guest.engine.step import Step

__all__ = ["checks"]

_SYSTEMS = {"debian": 12, "ubuntu": 22}  # the lowest major release with everything that is used here
_MACHINES = {"amd64", "arm64"}
_FREE_MIB = 4096  # OpenClaw with its store 1.0 GiB, Docker and tools 0.9, and room to unpack


def checks() -> list[Step]:
    """Return the steps that change nothing, and refuse a guest on which the installation cannot work."""
    return [
        check(
            "system",
            '. /etc/os-release; echo "$ID ${VERSION_ID-} ${PRETTY_NAME-}"',
            "Debian 12, Ubuntu 22.04 or later",
            _system,
        ),
        check("architecture", "dpkg --print-architecture; :", "amd64 or arm64", _machine),
        check(
            "systemd",
            "if [ -d /run/systemd/system ]; then echo yes; else echo no; fi",
            "yes",
            lambda fact: (
                None if fact == "yes" else "the guest was not started by systemd, which runs the gateway"
            ),
        ),
        check("disk space", render("guest/disk-space.sh.j2", record=RECORD), f"{_FREE_MIB} MiB", _space),
    ]


def _system(fact: str) -> str | None:
    """Refuse a system that is not supported. The fact is ID, VERSION_ID and PRETTY_NAME of os-release(5)."""
    name, _, rest = fact.partition(" ")
    version, _, title = rest.partition(" ")
    release = re.match(r"[0-9]{1,4}(?![0-9])", version)
    if name in _SYSTEMS and release and int(release[0]) >= _SYSTEMS[name]:
        return None
    found = title or name or "an unknown system"
    return f"the guest runs {found}; expected Debian 12, Ubuntu 22.04, or a later release of either"


def _machine(fact: str) -> str | None:
    """Refuse an architecture without OpenClaw."""
    if fact in _MACHINES:
        return None
    return f"the guest's architecture is {fact or 'unknown'}; expected amd64 or arm64"


def _space(fact: str) -> str | None:
    """Refuse a full disk, unless OpenClaw is installed already."""
    match = re.fullmatch(r"(?P<installed>yes|no)\s(?P<free>[0-9]{1,15})", fact)
    if not match:
        return "the guest does not say how much space its disk has left"
    if match["installed"] == "yes" or int(match["free"]) >= _FREE_MIB:
        return None
    return f"the guest's disk has {match['free']} MiB free; the installation needs {_FREE_MIB} MiB"
