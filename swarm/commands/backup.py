"""The commands that make and remove backups: now, prune, key. Those that only read are in archives.py."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.commands.render import Done, render
from swarm.commands.run import chosen, run
from swarm.console import Talk, screen
from swarm.errors import Refused, UsageError
from swarm.files import write_new
from swarm.fleet import parts
from swarm.paths import expanded

if TYPE_CHECKING:
    from swarm.backup.catalog import Catalog
    from swarm.backup.now import Report
    from swarm.inventory import Host
    from swarm.ssh.link import Link

__all__ = ["catalog", "identity_file", "key", "now", "prune"]


def now(words: str, *, plan_only: bool, force: bool, bwlimit: int, as_json: bool) -> int:
    """Back up hosts."""
    if bwlimit < 0:
        raise UsageError("--bwlimit takes a number of KiB per second, or 0 for no limit")
    ways: dict[str, Link] = {}
    unreached: dict[str, Exception] = {}

    def reach(host: Host) -> None:
        try:
            ways[host.name] = parts.link(host)
            ways[host.name].connect()
        except Exception as error:  # noqa: BLE001 - raised when the host's own turn comes
            unreached[host.name] = error

    def one(host: Host, talk: Talk) -> Report:
        from swarm.backup.early import failed_early
        from swarm.backup.now import back_up

        if error := unreached.get(host.name):
            if not plan_only:
                failed_early(host.name, host.backup, error, talk)
            raise error
        settings = host.backup.model_copy(update={"bwlimit": bwlimit}) if bwlimit else host.backup
        report = back_up(
            parts.source(host, ways[host.name]), settings, talk, plan_only=plan_only, force=force
        )
        if not plan_only:
            talk.say(report.summary)
        return report

    return render(run(chosen(words), one, first=reach, quiet=as_json), as_json=as_json)


def catalog(host: Host, identity: str = "") -> Catalog:
    """Return the archives of a host. `identity` names a file with an age secret key."""
    return parts.catalog(host, identity_file(identity))


def identity_file(words: str) -> Path | None:
    """Return the file with the age secret key: the given one, or that of SWARM_AGE_IDENTITY, or None.

    Raise UsageError if it can't be read.
    """
    given = words or os.environ.get("SWARM_AGE_IDENTITY", "")
    if not given:
        return None
    path = expanded(Path(given))
    if not os.access(path, os.R_OK) or path.is_dir():
        raise UsageError(
            f"the age identity {path} can't be read", "--identity takes a file with an AGE-SECRET-KEY line"
        )
    return path


def prune(words: str, *, plan_only: bool, yes: bool, as_json: bool) -> int:
    """Remove the archives that the retention policy lets go."""
    from swarm.backup.busy import hold_host

    def one(host: Host, talk: Talk) -> Done:
        with hold_host(host.name):
            return _pruned(host, talk, plan_only=plan_only, yes=yes)

    return render(run(chosen(words), one, quiet=as_json), as_json=as_json)


def _pruned(host: Host, talk: Talk, *, plan_only: bool, yes: bool) -> Done:
    from swarm.backup import record
    from swarm.backup.removal import prune as removed
    from swarm.backup.store import policy

    found, rules = catalog(host), policy(host.backup)
    pending = {
        each.url: removed(each, host.name, rules, found.record, plan_only=True)[0]
        for each in found.destinations
    }
    for url, names in pending.items():
        for name in names:
            talk.say(f"- {name} at {url}")
    if plan_only or not any(pending.values()):
        if not any(pending.values()):
            talk.say("nothing to do")
        return Done(any(pending.values()), "would remove archives")
    if not yes and not talk.ask(f"Remove these archives of {host.name}?"):
        raise Refused(f"{host.name}: no archive was removed", "--yes removes without a question")
    try:
        for each in found.destinations:
            _, notes = removed(each, host.name, rules, found.record)
            for note in notes:
                talk.say(note)
    finally:  # what is gone must not count as verified, also if a later removal fails
        record.save(host.name, found.record)
    return Done(changed=True, verb="removed old archives")


def key(path: str) -> int:
    """Make a pair of age keys: the secret half in a file, the public half on stdout."""
    import pyrage

    target = expanded(Path(path or "swarm-backup.key"))
    identity = pyrage.x25519.Identity.generate()
    public = str(identity.to_public())
    text = f"# created: {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n# public key: {public}\n{identity}\n"
    try:
        write_new(target, text)
    except FileExistsError:
        raise Refused(f"{target} exists and is kept", "--file takes the name of a new file") from None
    screen().data(public)
    talk = Talk(screen())
    talk.say(f"The secret key is in {target}. Move it off this machine, to a password manager or a safe.")
    talk.say("Backups need only the public key: write it to backup.recipient in the host file.")
    talk.say("Restoring needs the secret key: --identity FILE. Without it, no archive can be read by anyone.")
    return 0
