"""The steps for the guest's SSH server: what may be forwarded over a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.guest.engine.step import Step
from swarm.guest.kinds.files import file
from swarm.guest.kinds.parts import STAMPS, fields
from swarm.templates import render
from swarm.text import quote

if TYPE_CHECKING:
    from swarm.inventory.inside import InstallSettings

__all__ = ["sshd"]

# Before cloud-init's 50-cloud-init.conf: the first value of a keyword counts.
_DROP_IN = "/etc/ssh/sshd_config.d/00-swarm.conf"
_STAMP = f"{STAMPS}/sshd"
# The file alone must be valid, so that a wrong one is never put in place: it could lock everybody out.
_CHECK = """checked=$(mktemp)
printf '%s' {text} >"$checked"
/usr/sbin/sshd -t -f "$checked" || {{ rm -f "$checked"; exit 1; }}
rm -f "$checked\""""


def sshd(settings: InstallSettings, after: tuple[str, ...]) -> list[Step]:
    """Return the steps for an SSH server that forwards neither X11 nor agents, and TCP only to and from loopback.

    Towards the guest only the gateway's port is open. From the guest a connection may listen on loopback, which
    ssh.forward needs.
    """
    text = render("guest/sshd.conf.j2", port=settings.port)
    drop_in = file(_DROP_IN, text, after=after, check=_CHECK.format(text=quote(text)))
    return [drop_in, _loaded((drop_in.subject,))]


def _loaded(after: tuple[str, ...]) -> Step:
    """The running server has read the drop-in. The checksum of what it has read is recorded on the guest."""
    script = render("guest/sshd-reload.sh.j2", path=_DROP_IN, stamp=_STAMP)

    def current(fact: str) -> bool:
        now = fields(fact, "=")
        return bool(now.get("Files")) and now.get("Loaded") == now.get("Files")

    return Step(
        subject="SSH server",
        probe=f"loaded_fact {quote(_STAMP, _DROP_IN)}",
        wanted="with its present settings",
        apply=lambda fact: None if current(fact) else script,
        reacts_to=after,
        shown=lambda fact: None if current(fact) else "with old settings",
        known={"files": (_DROP_IN,)},
    )
