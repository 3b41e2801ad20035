"""Ask a guest about itself: one script, one round trip. Everything that it answers is bounded and distrusted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from swarm.fleet.status import Inside
from swarm.ssh.fresh import ask, ask_kept
from swarm.ssh.session import Limits
from swarm.templates import render
from swarm.text import quote

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.inventory import InstallSettings

__all__ = ["LIMITS", "inside", "look", "script"]

# Seconds: connecting takes up to 10 until ssh gives up, and the script up to 10 on a guest that hangs.
LIMITS = Limits(total=20.0, silence=20.0, line=8192, output=64 << 10)
_READY = "200"
_VERSION = re.compile(r"version ([0-9][0-9A-Za-z.+-]{0,63})(?: |$)")
_SPOOL = re.compile(r"(?:^| )spool ([0-9]{1,9}) ([0-9]{1,15})(?: |$)")
_DISK = re.compile(r"([0-9]{1,15}) ([0-9]{1,15})")
_KIB = 1024


def look(config: Path, alias: str, settings: InstallSettings, *, spool: bool, keep: bool = False) -> Inside:
    """Return what the guest says over a new connection, or with `keep` over a kept one.

    With `spool`, the agentmon events that wait there are counted. Raise Unreachable or CommandFailed.
    """
    return inside((ask_kept if keep else ask)(config, alias, script(settings, spool=spool), LIMITS))


def script(settings: InstallSettings, *, spool: bool) -> str:
    """Return the script that prints the facts. What belongs to the agent's user is read as that user."""
    own = render(
        "guest/status-own.sh.j2",
        development=settings.install_mode == "development",
        checkout=settings.repo_dir,
        shim=f"{settings.home}/.local/share/pnpm/bin/openclaw",
        spool=f"{settings.config_dir}/agentmon" if spool else "",
    )
    facts = render("guest/status.sh.j2", port=settings.port, user=settings.user, own=own)
    return f"exec bash -c {quote(facts)}\n"


def inside(answer: bytes) -> Inside:
    """Return the facts in a guest's answer. A line that is missing or malformed leaves its facts unknown."""
    lines: dict[str, str] = {}
    for line in answer.decode("utf-8", "replace").split("\n"):
        key, _, rest = line.partition(" ")
        lines.setdefault(key, rest.strip())
    disk = _DISK.fullmatch(lines.get("disk", ""))
    own = lines.get("own", "")
    version, spool = _VERSION.match(own), _SPOOL.search(own)
    return Inside(
        openclaw=version[1] if version else "",
        gateway=_gateway(lines.get("gateway", "")),
        used=int(disk[1]) * _KIB if disk else None,
        free=int(disk[2]) * _KIB if disk else None,
        spool=(int(spool[1]), int(spool[2])) if spool else None,
    )


def _gateway(code: str) -> str:
    if not re.fullmatch("[0-9]{1,3}", code):
        return ""
    if code == _READY:
        return "ready"
    return "not ready" if int(code) else "no answer"
