"""Read the answers of the restore program in the guest, which may send anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swarm.backup.manifest import Entry
from swarm.errors import VerificationFailed
from swarm.text import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["read_scan", "sentence", "value_of"]


def sentence(each: Mapping[str, Any]) -> str:
    """Return a path and what is wrong with it."""
    return visible(f"{str(each.get('path'))[:300]}: {str(each.get('wrong'))[:300]}", lines=False)


def value_of(host: str, answers: list[Any], name: str) -> str:
    """Return a text that the program reported under `name`. Raise VerificationFailed if it did not."""
    for each in answers:
        if isinstance(each, dict) and isinstance(each.get(name), str):
            return str(each[name])
    raise VerificationFailed(f"{host}: received a malformed answer from the guest")


def read_scan(host: str, answers: list[Any]) -> tuple[str, Mapping[str, Any], list[Entry]]:
    """Return the journal's phase, the missing accounts and the entries of a scan. The guest may send anything."""
    phase, found = "", []
    missing: dict[str, object] = {"users": [], "groups": [], "group": ""}
    try:
        for each in answers:
            if isinstance(each, list):
                path, kind, mode, owner, group, size, sha256, target = each
                found.append(
                    Entry(
                        str(path),
                        kind,
                        int(mode),
                        0,
                        str(owner),
                        str(group),
                        int(size),
                        str(sha256),
                        str(target),
                    )
                )
            elif "journal" in each:
                phase = str(each["journal"])
            else:
                users, groups = (list(map(str, each[name])) for name in ("users", "groups"))
                missing = {"users": users, "groups": groups, "group": str(each["group"])}
    except (ValueError, TypeError, KeyError, OverflowError):
        raise VerificationFailed(f"{host}: received a malformed answer from the guest") from None
    return phase, missing, found
