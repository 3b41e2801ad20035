"""The way back from an upgrade: the old OpenClaw, the guest's record as it was, and the state from the backup."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from swarm.errors import Refused, SwarmError, VerificationFailed, explained
from swarm.fleet import parts, verdict
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from swarm.backup.recover import Origin
    from swarm.console import Talk
    from swarm.fleet.unfinished import Unfinished
    from swarm.guest.engine.step import Step
    from swarm.inventory import Host
    from swarm.ssh.guest import Guest

__all__ = [
    "Stopped",
    "check_promises",
    "go_back",
    "install_old",
    "pinned",
    "program",
    "restore_state",
    "start_gateway",
]

_WRITING = 60.0  # seconds for one small file


class Stopped(Exception):
    """The way back ended in `phase`, because of `error`."""

    def __init__(self, phase: str, error: SwarmError) -> None:
        super().__init__(phase)
        self.phase, self.error = phase, error


def pinned(host: Host, version: str | None) -> Host:
    """Return the host as if its file pinned this version of OpenClaw, or with None only its channel."""
    return host.model_copy(update={"openclaw": host.openclaw.model_copy(update={"version": version})})


def go_back(host: Host, note: Unfinished, talk: Talk) -> None:
    """Put the old version and state back, and test every promise. Each phase may be repeated. Raise Stopped.

    The state is swapped before the old version runs: OpenClaw refuses to work on a configuration that a newer version
    has written.
    """
    old = pinned(host, note.old)
    phases: tuple[tuple[str, Callable[[], object]], ...] = (
        (f"install OpenClaw {note.old}", lambda: install_old(old, note, talk)),
        ("restore the state", lambda: restore_state(old, note, talk)),
        ("start the gateway", lambda: start_gateway(old, talk)),
        ("verify", lambda: check_promises(old, note, talk)),
    )
    for phase, work in phases:
        talk.say(f"way back: {phase}")
        try:
            work()
        except Exception as error:
            raise Stopped(phase, explained(error)) from error


def install_old(old: Host, note: Unfinished, talk: Talk) -> None:
    """Stop the gateway, and install the old version of OpenClaw."""
    from swarm.backup.swap import Gateway
    from swarm.guest.engine.converge import converge

    with parts.connect(old) as guest:
        Gateway(guest, old.name, old.openclaw.user).stop()
        _write_record(guest, verdict.record_for(note.record, note.old))
        converge(guest, [program(old)], talk)


def _write_record(guest: Guest, text: str) -> None:
    """Write the record exactly as it was, so that the next installation does not resolve the channel again."""
    from swarm.guest.install.openclaw import RECORD

    new = f"{RECORD}.swarm-back"
    write = f"printf %s {quote(text)} >{new} && chmod 644 {new} && mv -fT {new} {RECORD}"
    script = f"mkdir -p $(dirname {RECORD}) && {write}"
    guest.check(script, "writing the record of OpenClaw's version", timeout=_WRITING)


def program(host: Host) -> Step:
    """Return the step that installs the recorded version of OpenClaw, and starts nothing."""
    from swarm.guest.install.openclaw import software

    return replace(software(host.openclaw, (), upgrade=False)[-1], after=())


def restore_state(old: Host, note: Unfinished, talk: Talk) -> None:
    """Restore the state from the backup that the upgrade made. Raise VerificationFailed if a file is missing."""
    from swarm.backup.busy import hold_host
    from swarm.backup.restore import restore

    with (
        hold_host(old.name, "restore") as lock,
        _origin(old, note, talk) as origin,
        parts.connect(old) as guest,
    ):
        # The gateway rests already. It must not start before its unit is that of the old version.
        target = replace(parts.target(old, guest, lock), service=False)
        done = restore(target, origin.tree, origin.manifest, old.backup, talk)
    if done.problems:
        raise VerificationFailed(f"{old.name}: {done.problems[0]}")


def _origin(old: Host, note: Unfinished, talk: Talk) -> AbstractContextManager[Origin]:
    """The archive that the upgrade has made, or for an encrypted one the mirror, if it is still that of this backup."""
    from swarm.backup import record
    from swarm.backup.recover import from_archive, from_mirror

    if note.archive and not note.archive.endswith(".age"):
        return from_archive(parts.catalog(old), note.archive, talk)
    if record.load(old.name).started == note.backup:
        return contextlib.nullcontext(from_mirror(old, talk))
    raise Refused(
        f"{old.name}: another backup has replaced the mirror, and {note.archive or 'no archive'} is encrypted",
        f"./inv restore --host {old.name} --archive {note.archive or 'NAME'} --identity FILE",
    )


def start_gateway(old: Host, talk: Talk) -> None:
    """Run the rest of the installation with the old version, which starts the gateway."""
    with parts.connect(old) as guest:
        parts.installing_all(old, guest.link, talk)


def check_promises(old: Host, note: Unfinished, talk: Talk) -> None:
    """Test every promise. Raise VerificationFailed if one is broken that was kept before the upgrade."""
    from swarm.guest.verify import verify

    checks = verify(parts.connect(old), parts.expected(old), talk).checks
    if worse := verdict.newly_broken(note.broken, checks):
        raise VerificationFailed(f"{old.name}: {verdict.reason(worse)}")
