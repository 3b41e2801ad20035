"""The commands that look into archives: list, show, diff, find, verify."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from swarm.commands.backup import catalog
from swarm.commands.render import render
from swarm.commands.run import chosen, run
from swarm.console import Talk, escape, screen
from swarm.errors import SwarmError, UsageError
from swarm.inventory import load
from swarm.text import amount, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from swarm.backup.catalog import Catalog, Row
    from swarm.backup.manifest import Difference, Entry, Manifest
    from swarm.backup.naming import Name
    from swarm.inventory import Host
    from swarm.s3 import Destination

__all__ = ["diff", "find", "listing", "show", "verify"]

_COLUMNS = (
    "archive",
    "age",
    "files",
    "size",
    "stored",
    "verified",
    "recipient",
    "retained until",
    "destination",
)

_CHOICES = ("--archive", "--all", "--sample")  # of the archives to verify


@dataclass(frozen=True)
class Listing:
    """The archives of one host."""

    rows: tuple[Row, ...]
    errors: tuple[str, ...] = ()
    changed: bool = False

    @property
    def exit_code(self) -> int:
        """1 if a destination did not answer, else 0."""
        return int(bool(self.errors))

    @property
    def summary(self) -> str:
        """How many archives there are."""
        return f"{len(self.rows)} archives"

    def to_json(self) -> dict[str, Any]:
        """Return the rows as plain data."""
        return {"archives": [row.to_json() for row in self.rows], "errors": list(self.errors)}


def listing(words: str, *, as_json: bool) -> int:
    """List the archives of hosts."""

    def one(host: Host, talk: Talk) -> Listing:
        found = catalog(host)
        rows = tuple(found.rows())
        return Listing(rows, _unanswered(found, talk))

    return render(run(chosen(words), one, quiet=as_json), as_json=as_json, table=_table)


def _unanswered(found: Catalog, talk: Talk) -> tuple[str, ...]:
    """Show the errors of the destinations that did not answer, and return their messages."""
    for error in found.errors.values():
        talk.screen.error(error, talk.prefix)
    return tuple(error.message for error in found.errors.values())


def _table(outcomes: Sequence[Any]) -> None:
    rows = [_row(row) for each in outcomes if each.result for row in each.result.rows]
    if rows:
        screen().table(_COLUMNS, rows)
    elif not any(each.error or each.result.errors for each in outcomes):  # else nobody knows
        Talk(screen()).say("no archives")


def _row(row: Row) -> tuple[str, ...]:
    found = row.summary
    if found is None:
        return (
            str(row.name),
            _age(row.name.created),
            "",
            "",
            "",
            visible(row.problem or ""),
            "",
            "",
            row.destination,
        )
    retained = f"{row.retained:%Y-%m-%d %H:%M} UTC" if row.retained else ""
    return (
        str(row.name),
        _age(row.name.created),
        str(found.files),
        amount(found.size),
        amount(found.stored),
        row.verified or "no",
        visible((found.recipient or "")[:12]),
        retained,
        row.destination,
    )


def _age(created: datetime) -> str:
    passed = (datetime.now(UTC) - created).total_seconds()
    if passed < 0:
        return "in the future"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if passed >= size:
            return f"{passed / size:.0f} {unit}"
    return f"{passed:.0f} s"


def show(name: str, words: str, identity: str, *, as_json: bool) -> int:
    """Show the manifest of one archive."""
    manifest = _manifest(catalog(load(name), identity), words)
    if as_json:
        screen().json(_manifest_json(manifest))
        return 0
    screen().table(
        ("mode", "owner", "size", "modified", "path"), [_entry(entry) for entry in manifest.entries]
    )
    return 0


def _manifest(found: Catalog, words: str) -> Manifest:
    """Return the manifest of an archive, from the first destination whose copy is good. Warn as a restore does."""
    from swarm.backup.recover import first_good, warn_of_silence

    talk, copies = Talk(screen()), found.copies(words)
    warn_of_silence(found, words, talk)
    return first_good(copies, talk, found.manifest)


def _manifest_json(manifest: Manifest) -> dict[str, Any]:
    data = asdict(manifest)
    return {**data, "databases": {path: dict(tables) for path, tables in manifest.databases.items()}}


def _entry(entry: Entry) -> tuple[str, ...]:
    signs = {"directory": "d", "link": "l", "hard": "h", "file": "-"}
    path = visible(entry.path, lines=False)
    path += f" → {visible(entry.target, lines=False)}" if entry.target else ""
    owner = f"{entry.owner}:{entry.group}"
    return (
        f"{signs[entry.kind]}{entry.mode:04o}",
        owner,
        str(entry.size),
        _time(entry.mtime_ns // 10**9),
        path,
    )


def _time(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):  # a file can have any time, such as one after the year 9999
        return f"@{seconds}"


def diff(name: str, older: str, newer: str, identity: str, *, as_json: bool) -> int:
    """Show the difference of two archives."""
    from swarm.backup.manifest import difference

    found = catalog(load(name), identity)
    if not older:
        raise UsageError(
            "--older takes the name of an archive", f"./inv backup.list --host {name} lists them"
        )
    before, after = (_manifest(found, words) for words in (older, newer))
    done = difference(before, after)
    if as_json:
        screen().json(done.to_json())
    else:
        _show_difference(done)
    return 0


def _show_difference(done: Difference) -> None:
    for sign, color, paths in (
        ("+", "green", done.added),
        ("-", "red", done.removed),
        ("~", "yellow", done.changed),
    ):
        for path in paths:
            screen().data(f"[{color}]{sign}[/] {escape(visible(path, lines=False))}")
    if not done:
        Talk(screen()).say("no difference")


def find(name: str, pattern: str, identity: str, *, as_json: bool) -> int:
    """Show in which archives a file is."""
    if not pattern:
        raise UsageError("--path takes a part of a path, or a shell pattern such as '*.jsonl'")
    found, talk = catalog(load(name), identity), Talk(screen())
    rows, complete = _matches(found, pattern, talk)
    complete = not _unanswered(found, talk) and complete
    if as_json:
        screen().json(
            [
                {"archive": archive, "path": each.path, "size": each.size, "sha256": each.sha256}
                for archive, each in rows
            ]
        )
    elif rows:
        screen().table(
            ("archive", "mode", "owner", "size", "modified", "path"),
            [(archive, *_entry(each)) for archive, each in rows],
        )
    else:
        talk.say(f"no {'' if complete else 'other '}archive has a path that matches {visible(pattern)}")
    return 0 if rows and complete else 1


def _matches(found: Catalog, pattern: str, talk: Talk) -> tuple[list[tuple[str, Entry]], bool]:
    """Return the entries that match in each archive, and whether every manifest could be read."""
    from swarm.backup.manifest import find as matching

    rows: list[tuple[str, Entry]] = []
    complete = True
    for destination, archive in found.names():
        try:
            rows += [
                (str(archive), entry) for entry in matching(found.manifest(destination, archive), pattern)
            ]
        except SwarmError as error:
            complete = False
            where = f"{archive} at {destination.url}"
            talk.screen.error(
                SwarmError(f"{where} was not searched: {error.message}", error.hint), talk.prefix
            )
    return rows, complete


@dataclass(frozen=True)
class Checked:
    """The result of verifying archives of one host."""

    results: tuple[dict[str, Any], ...]
    errors: tuple[str, ...] = ()
    changed: bool = False

    @property
    def exit_code(self) -> int:
        """1 if an archive is damaged or can't be read, or a destination did not answer, else 0."""
        return int(bool(self.errors) or any(each["error"] for each in self.results))

    @property
    def summary(self) -> str:
        """How many copies are good."""
        good = sum(1 for each in self.results if not each["error"])
        silent = f"; destinations that did not answer: {len(self.errors)}" if self.errors else ""
        return f"{good} of {len(self.results)} copies verified{silent}"

    def to_json(self) -> dict[str, Any]:
        """Return the results as plain data."""
        return {"archives": list(self.results), "errors": list(self.errors)}


def verify(words: str, archive: str, identity: str, *, everything: bool, sample: int, as_json: bool) -> int:
    """Read archives from end to end, each copy of them, and compare them with their manifests."""
    if sample < 0:
        raise UsageError("--sample takes the number of archives to choose", "--all verifies every one")
    given = [option for option, value in zip(_CHOICES, (archive, everything, sample), strict=True) if value]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other", "each says which archives to verify")

    def one(host: Host, talk: Talk) -> Checked:
        found = catalog(host, identity)
        results = []
        for destination, name in found.chosen(archive or "latest", everything=everything, sample=sample):
            results.append(_checked(found, destination, name, talk))
        for note in found.notes:
            talk.warn(note)
        done = Checked(tuple(results), _unanswered(found, talk))
        talk.say(done.summary)
        return done

    return render(run(chosen(words), one, quiet=as_json), as_json=as_json)


def _checked(found: Catalog, destination: Destination, name: Name, talk: Talk) -> dict[str, Any]:
    result: dict[str, Any] = {
        "archive": str(name),
        "destination": destination.url,
        "verified": None,
        "error": None,
    }
    try:
        with talk.step(f"verify {name}", silent=True) as meter:
            result["verified"] = found.check(destination, name, lambda count: meter.advance(count, None))
        talk.done(f"{name} at {destination.url}: verified ({result['verified']})")
    except SwarmError as error:
        result["error"] = error.message
        talk.screen.error(error, talk.prefix)
    return result
