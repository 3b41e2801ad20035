"""The decisions of an upgrade and the sentences about it: what broke, what to go back to, and what to do then."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from swarm.errors import Refused, SwarmError, VerificationFailed
from swarm.text import visible

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from swarm.guest.verify import Check
    from swarm.plan import Plan

__all__ = [
    "Report",
    "Route",
    "broken",
    "cause",
    "interrupted",
    "interrupted_back",
    "newly_broken",
    "outcome",
    "promise",
    "question",
    "reason",
    "record_for",
    "recorded",
    "returning",
    "route",
    "stuck",
]

_VERSION = r"[0-9][0-9A-Za-z.+-]{0,63}"
_RELEASE = "OpenClaw release"
_LONGEST = 400  # characters of another error in a sentence
_SHOWN = 3  # broken promises that a sentence names


@dataclass(frozen=True)
class Route:
    """From which version of OpenClaw to which one. They are equal if only other packages change."""

    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.old} → {self.new}" if self.old != self.new else f"packages, with OpenClaw {self.old}"


@dataclass(frozen=True)
class Report:
    """The outcome of an upgrade that did not fail. `went_back`: the old version and state were asked for."""

    host: str
    changed: bool
    route: Route
    changes: tuple[str, ...] = ()
    already_broken: tuple[str, ...] = ()
    planned: bool = False
    went_back: bool = False

    @property
    def summary(self) -> str:
        """The outcome in a few words."""
        if not self.changed:
            return "nothing to do"
        if self.went_back:
            what = f"OpenClaw {self.route.old} and its state"
            return f"would put {what} back" if self.planned else f"{what} are back"
        return f"{'would upgrade' if self.planned else 'upgraded'} {self.route}"

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain data."""
        return {
            "from": self.route.old,
            "to": self.route.new,
            "changes": list(self.changes),
            "already_broken": list(self.already_broken),
            "went_back": self.went_back,
        }


def recorded(record: str) -> str:
    """Return the version in the text of the guest's record, or "" if there is none."""
    found = re.search(rf"^version ({_VERSION})$", record, re.MULTILINE)
    return found[1] if found else ""


def record_for(record: str, installed: str) -> str:
    """Return the record to put back: as it was, but with the version that is really installed.

    They differ after an installation that was interrupted. Without a record, the installed version is pinned.
    """
    if recorded(record) == installed:
        return record
    of_that = ("version ", "integrity ")  # the next installation looks the checksum up
    rest = [row for row in record.splitlines() if not row.startswith(of_that)] or ["pinned"]
    return "\n".join([f"version {installed}", *rest]) + "\n"


def route(installed: str, record: str, plan: Plan) -> Route:
    """Return from which version to which a plan with upgrade=True leads."""
    new = recorded(record) or installed
    for change in plan:
        if change.subject == _RELEASE:
            offered = re.findall(rf"(?<![^ ]){_VERSION}(?![^ ])", change.before or "")
            new = offered[-1] if offered else new
    return Route(installed, new)


def broken(checks: Iterable[Check]) -> tuple[str, ...]:
    """Return the texts of the promises that are broken."""
    return tuple(check.text for check in checks if check.result == "broken")


def newly_broken(before: Collection[str], checks: Iterable[Check]) -> tuple[str, ...]:
    """Return the promises that are broken now, and were not `before`."""
    return tuple(text for text in broken(checks) if text not in before)


def reason(texts: Collection[str]) -> str:
    """Return a clause that says which promises are broken."""
    shown = "; ".join(visible(text, lines=False).rstrip(".") for text in list(texts)[:_SHOWN])
    more = f"; and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return f"a promise broke: {shown}{more}" if len(texts) == 1 else f"promises broke: {shown}{more}"


def cause(host: str, error: SwarmError) -> str:
    """Return an error's message as a part of another sentence: one line, and without the host's name."""
    text = " ".join(error.message.removeprefix(f"{host}: ").split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def question(route: Route, since: str = "") -> str:
    """Return the question that is asked before anything changes. `since`: as in promise()."""
    if since:
        return f"Upgrade {route}, and put the old version and the state of {since} back if a promise breaks?"
    return f"Back up, upgrade {route}, and put the old version and state back if a promise breaks?"


def promise(route: Route, since: str = "") -> str:
    """Return what a plan states about a failure. `since` is the moment of the backup if that was made earlier."""
    first, state = (
        ("no other backup is made", f"the state of {since}")
        if since
        else ("a backup comes first", "its state")
    )
    return (
        f"{first}; if the installation fails, the gateway does not come up or a promise breaks, "
        f"OpenClaw {route.old} and {state} are put back (upgraded packages of the system stay)"
    )


def outcome(host: str, route: Route, why: str, pinned: str | None) -> VerificationFailed:
    """Return the error after a successful way back. `pinned` is the version in the host file."""
    sentence = (
        f"{host}: the upgrade to {route.new} failed, and OpenClaw {route.old} and its state are back: {why}"
    )
    if route.old == route.new:
        return VerificationFailed(sentence, f"./inv verify --host {host} tests every promise")
    keep = f'openclaw.version: "{route.old}" in hosts/{host}.yaml'
    if pinned and pinned != route.old:
        return VerificationFailed(
            sentence, f"the host file asks for {pinned}; write {keep}, or the next install tries it again"
        )
    return VerificationFailed(sentence, f"./inv install keeps {route.old}; with {keep}, upgrades do too")


def stuck(host: str, route: Route, why: str, phase: str, error: SwarmError) -> VerificationFailed:
    """Return the error after a way back that failed in `phase`."""
    hint = f"./inv upgrade --host {host} --back goes on from there"
    return VerificationFailed(
        f"{host}: the upgrade to {route.new} failed ({why}), and so did the way back to {route.old}, "
        f"which stopped at: {phase}: {cause(host, error)}",
        f"{error.hint}; then {hint}" if error.hint and not isinstance(error, Refused) else hint,
    )


def interrupted(host: str, route: Route) -> str:
    """Return what to say after Ctrl-C between the backup and the last check."""
    return (
        f"the upgrade {route} was interrupted; ./inv upgrade --host {host} completes it, and "
        f"./inv upgrade --host {host} --back puts OpenClaw {route.old} and its state back; "
        "the gateway may be stopped until then"
    )


def interrupted_back(host: str, route: Route) -> str:
    """Return what to say after Ctrl-C on the way back."""
    return (
        f"the way back to OpenClaw {route.old} was interrupted; ./inv upgrade --host {host} goes on with it; "
        "the gateway may be stopped until then"
    )


def returning(route: Route, why: str) -> str:
    """Return what the run after an interrupted way back says first."""
    return (
        f"an upgrade {route} is unfinished: OpenClaw {route.old} and its state were being put back ({why}); "
        "this goes on with the way back"
    )
