"""The commands that make and remove backups: now, prune, key. Those that only read are in archives.py."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarm.commands.render import Done, render
from swarm.commands.run import chosen, run
from swarm.console import Talk, screen
from swarm.errors import Refused, UsageError
from swarm.files import write_new
from swarm.fleet import parts
from swarm.paths import expanded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from swarm.backup.catalog import Catalog
    from swarm.backup.now import Report
    from swarm.backup.store import Place
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


@dataclass(frozen=True)
class Pruned(Done):
    """What was removed, or would be. `errors` are those of the destinations that failed."""

    errors: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """1 if a destination failed, else 0."""
        return int(bool(self.errors))

    @property
    def summary(self) -> str:
        """The result in a few words."""
        return super().summary + (f"; destinations that failed: {len(self.errors)}" if self.errors else "")

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return {**super().to_json(), "errors": list(self.errors)}


def prune(words: str, *, plan_only: bool, yes: bool, as_json: bool) -> int:
    """Remove the archives that the retention policy lets go."""
    from swarm.backup.busy import hold_host

    def one(host: Host, talk: Talk) -> Pruned:
        with hold_host(host.name, "pruning"):
            return _pruned(host, talk, plan_only=plan_only, yes=yes)

    return render(run(chosen(words), one, quiet=as_json), as_json=as_json)


def _pruned(host: Host, talk: Talk, *, plan_only: bool, yes: bool) -> Pruned:
    from swarm.backup import record
    from swarm.backup.removal import prune as removed
    from swarm.backup.store import Place, policy

    found, rules = catalog(host), policy(host.backup)
    places = [Place(each) for each in found.destinations]
    pending = {
        place.url: place.attempt(removed, place.destination, host.name, rules, found.record, plan_only=True)
        for place in places
    }
    due = [(url, name) for url, each in pending.items() if each for name in each[0]]
    for url, name in due:
        talk.say(f"- {name} at {url}")
    errors = _failures(places, talk)
    if plan_only or not due:
        if not due and not errors:
            talk.say("nothing to do")
        return Pruned(bool(due), "would remove archives", errors)
    if not yes and not talk.ask(f"Remove these archives of {host.name}?"):
        raise Refused(f"{host.name}: no archive was removed", "--yes removes without a question")
    working = [place for place in places if not place.error]
    try:
        for place in working:
            done = place.attempt(removed, place.destination, host.name, rules, found.record)
            for note in done[1] if done else ():
                talk.say(note)
    finally:  # what is gone must not count as verified, also if a later removal fails
        record.save(host.name, found.record)
    return Pruned(changed=True, verb="removed old archives", errors=(*errors, *_failures(working, talk)))


def _failures(places: Iterable[Place], talk: Talk) -> tuple[str, ...]:
    """Show the errors of the destinations that failed, and return their messages."""
    found = [place.error for place in places if place.error]
    for error in found:
        talk.screen.error(error, talk.prefix)
    return tuple(error.message for error in found)


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
